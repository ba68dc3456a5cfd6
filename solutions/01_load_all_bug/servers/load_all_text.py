"""Reads the whole file, makes text of it to count its lines, and sends the text as bytes."""

from streamlab.serve import serve_files


def send(path, response):
    data = path.read_bytes()
    text = data.decode("latin-1")
    print(path.name, "has", text.count("\n"), "line ends")
    body = text.encode("latin-1")
    response.start(len(body))
    response.write(body)


serve_files(send)
