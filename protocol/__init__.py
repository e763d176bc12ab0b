"""What nodes say to each other, and every rule about it.

Pure: no sockets, clocks, threads, torch or randomness of its own. Time and randomness come in as arguments, what is
to be done goes out as values. The rules are written, sentence by sentence, in docs/protocol.md.
"""
