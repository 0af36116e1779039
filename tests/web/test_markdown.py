"""What becomes of an answer's Markdown: what is meant is shown, and nothing can happen."""

import re

import pytest

from foundling.web.markdown import TAGS, render


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines", "<p>two<br>\nlines</p>"),
        ("**a** `b` ~~c~~", "<p><strong>a</strong> <code>b</code> <s>c</s></p>"),
        ("```py\nx = 1 < 2\n```", '<pre><code class="">x = 1 &lt; 2\n</code></pre>'),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>'),
        ("|a|\n|-|\n|1|", "<td>1</td>"),
        ("$a_1 * b_2 * c$", '<code class="math">$a_1 * b_2 * c$</code>'),
        (r"so \(a_1 + b_1\)", r'<code class="math">\(a_1 + b_1\)</code>'),
        ("\\[\na\n+ b\n\\]", '<pre><code class="math">\\[\na\n+ b\n\\]</code></pre>'),
        ("sum:\n$$\n- x\n$$\nend", '<pre><code class="math">$$\n- x\n$$</code></pre>'),
        ("> $$a$$", '<pre><code class="math">$$a$$</code></pre>'),
        ("$5 or $6", "<p>$5 or $6</p>"),
        ("$$ open\n\n- b", "<li>b</li>"),
        ("[a]: http://b", "<p>[a]: http://b</p>"),
        ("![x](http://y/z.png)", "<p><code>![x](http://y/z.png)</code></p>"),
        ("[x](http://y)", '<a href="http://y" target="_blank" rel="noopener noreferrer">x</a>'),
        ("<b>bold</b> &amp;", "<p>&lt;b&gt;bold&lt;/b&gt; &amp;</p>"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert shown in render(text)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1)) <javascript:alert(1)>",
        "[a](data:text/html;base64,PHNjcmlwdD4=)",
        '[a](http://b "\' onmouseover=alert(1)")',
        "![a](http://b/c.png)\n![a]('\"><img src=x>)",
        "`<img src=x>`\n\n    <img src=x>\n\n```<img src=x>\n<iframe>\n```",
        "$<img src=x>$ \\(<svg onload=alert(1)>\\)\n\n$$\n<script>\n$$",
        "<style>*{display:none}</style><a href='//evil'>",
    ],
)
def test_nothing_can_happen(text: str) -> None:
    made = render(text)
    found = re.findall(r"<([a-z0-9]+)([^>]*)>", made)
    assert {tag for tag, _ in found} <= TAGS
    for _, attributes in found:
        names = set(re.findall(r'([a-z-]+)="', attributes))
        assert names <= {"href", "title", "target", "rel", "class", "start"}
        assert not re.search(r'href="(?!https?:|mailto:)', attributes)
