"""The server's address is checked before anything is started."""

import socket

from serve.launch import check_port
from serve.panel.config import Config
from tests.refusals import refused


def test_a_port_in_use_and_a_foreign_address_are_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with refused("in_use", "serve.port", naming=f"127.0.0.1:{port}"):
            check_port(Config(port=port))
    check_port(Config(port=port))
    # Of 127.0.0.0/8 every address is this machine's; of TEST-NET-1 none is.
    with refused("invalid_value", "serve.host", naming="192.0.2.1"):
        check_port(Config(host="192.0.2.1", keys_file="keys.json"))
