"""An HTTP server that sends the answers it is given, wrong ones too: it tests clients and proxies.

    with Origin() as origin:
        url = origin.put("/river.bin", Answer(bytes(1000), stop=600))

A client of `url` is promised 1000 bytes, gets 600, and finds the connection closed.
`origin.exchanges` has each request, how much of its answer has gone out, and when the client left.
By hand: `python -m streamlab.origin` serves an answer of every kind until it is interrupted.
"""

from streamlab.origin.samples import Bomb, block_of
from streamlab.origin.server import Answer, Exchange, Framing, Order, Origin

__all__ = ["Answer", "Bomb", "Exchange", "Framing", "Order", "Origin", "block_of"]
