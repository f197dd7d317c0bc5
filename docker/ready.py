"""Whether the broker of this container serves, or what else of raftlog has the port that is given: the
image's health check. Sockets alone are imported, since it runs every few
seconds: `python -I -S ready.py [PORT]`."""

import socket
import sys

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9644
TIMEOUT_S = 2.5


def main() -> int:
    try:
        with socket.create_connection(("127.0.0.1", PORT), TIMEOUT_S) as sock:
            sock.sendall(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n")
            answer = b""
            while data := sock.recv(4096):
                answer += data
    except OSError as error:
        print(f"nobody answers on port {PORT}: {error}")
        return 1
    head, _, body = answer.partition(b"\r\n\r\n")
    print(body.decode(errors="replace").strip())
    return 0 if head.startswith(b"HTTP/1.1 200") else 1


if __name__ == "__main__":
    sys.exit(main())
