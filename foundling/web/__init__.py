"""What both web servers share: who may ask, the socket, the server, Markdown shown safely, pages
and their look."""
