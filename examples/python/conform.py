"""The client of client.py as a program, as docs/conform.md asks for it: `natter conform -- python3 conform.py`."""
import asyncio, json, os, sys
from client import Client


async def main(kind=Client):
    urls, token_file = os.environ["NATTER_URL"].split(","), os.environ["NATTER_TOKEN_FILE"]

    def token():
        with open(token_file) as file:
            return file.read().strip()

    def tell(event):
        print(json.dumps(event), flush=True)

    client = kind(urls, token, os.environ["NATTER_DEVICE"], tell)
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    async def asked():
        while line := await lines.readline():
            deed = json.loads(line)
            client.send(deed["id"], deed["to"], deed["body"])

    running, asking = asyncio.ensure_future(client.run()), asyncio.ensure_future(asked())
    await asyncio.wait({running, asking}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        tell({"event": "closed", "code": running.result()})
    await client.close()
    running.cancel()
    asking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
