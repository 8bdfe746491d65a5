"""The client of examples/python with one defect, named on the command line: `natter conform` must find it."""
import asyncio, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4] / "examples/python"))
import client as whole
import conform
from client import Client

DEFECTS = {}


def defect(kind):
    DEFECTS[kind.__name__] = kind
    return kind


@defect
class NewCid(Client):
    """Sends again with another cid."""

    def on_welcome(self, welcome):
        super().on_welcome(welcome)
        for item in self.outbox.values():
            item["frame"]["cid"] += "x"


@defect
class CountedCid(Client):
    """Counts its messages instead of making random cids."""

    def send(self, id, to, body):
        super().send(id, to, body)
        list(self.outbox.values())[-1]["frame"]["cid"] = f"message-{len(self.outbox)}"


@defect
class SameCid(Client):
    """Uses one cid for all that it sends."""

    def send(self, id, to, body):
        super().send(id, to, body)
        self.once = getattr(self, "once", list(self.outbox.values())[-1]["frame"]["cid"])
        list(self.outbox.values())[-1]["frame"]["cid"] = self.once

    def on_message(self, conv, seq, message):
        # Else one answer would be one for all of them, which is against another rule.
        return super().on_message(conv, seq, {**message, "cid": None})


@defect
class AcksAhead(Client):
    """Acknowledges one more than it has."""

    async def write(self, frame):
        await super().write({**frame, "seq": frame["seq"] + 1} if frame["op"] == "ack" else frame)


@defect
class NeverAcks(Client):
    """Does not acknowledge."""

    async def write_acks(self):
        self.due = {}


@defect
class AcksEach(Client):
    """Acknowledges each message by itself."""

    def on_message(self, *message):
        result = super().on_message(*message)
        asyncio.ensure_future(self.write_acks())
        return result


@defect
class IgnoresGaps(Client):
    """Goes on as if nothing was missing."""

    def on_message(self, conv, seq, message):
        self.loose.add(conv)
        return super().on_message(conv, seq, message)


@defect
class IgnoresTruncated(Client):
    """Takes each hole for a fault."""

    def on_frame(self, frame):
        return None if frame.get("op") == "truncated" else super().on_frame(frame)


@defect
class TellsTwice(Client):
    """Does not drop what it has."""

    def on_message(self, conv, seq, message):
        if seq <= self.have.get(conv, 0):
            self.tell({"event": "message", **message})
        return super().on_message(conv, seq, message)


@defect
class NeverWaits(Client):
    """Connects again at once."""

    def wait(self):
        return 0


@defect
class StartsOver(Client):
    """Begins with the shortest wait whenever it is welcome."""

    def on_welcome(self, welcome):
        super().on_welcome(welcome)
        self.failures = 0


@defect
class NeverGivesUp(Client):
    """Connects again after every code."""

    async def connection(self, url):
        return await super().connection(url) and 1006


@defect
class IgnoresGoodbye(Client):
    """Comes back as if nothing had been said."""

    def wait(self):
        self.back = None
        return super().wait()


@defect
class OneAddress(Client):
    """Knows only the first address."""

    async def connection(self, url):
        return await super().connection(self.urls[0])


@defect
class NewDevice(Client):
    """Makes up a name for each connection."""

    async def connection(self, url):
        self.device = f"device-{self.attempt}"
        return await super().connection(url)


@defect
class ForgetsSince(Client):
    """Does not say what caught_up brought."""

    async def connection(self, url):
        self.since = None
        return await super().connection(url)


@defect
class Eager(Client):
    """Sends before it is welcome."""

    async def heard(self, seconds=None):
        if seconds:
            await asyncio.sleep(0.3)
            for item in self.outbox.values():
                await self.write(item["frame"])
        return await super().heard(seconds)


@defect
class ForgetsUnanswered(Client):
    """Believes that what was written has arrived."""

    def on_welcome(self, welcome):
        written = [item for item in self.outbox.values() if item["written"]]
        super().on_welcome(welcome)
        for item in written:
            item["written"] = True


@defect
class Reverses(Client):
    """Sends what has no answer again in another order."""

    def on_welcome(self, welcome):
        super().on_welcome(welcome)
        self.outbox = dict(reversed(self.outbox.items()))


@defect
class IgnoresEchoes(Client):
    """Waits for `sent`, whatever comes."""

    def on_message(self, conv, seq, message):
        return super().on_message(conv, seq, {**message, "cid": None})


@defect
class ForgetsRefused(Client):
    """Sends again what was refused for good."""

    def on_error(self, error, item):
        super().on_error({**error, "retry": True}, item)


@defect
class GivesUp(Client):
    """Takes every error for the end of a request."""

    def on_error(self, error, item):
        super().on_error({**error, "retry": False}, item)


@defect
class IgnoresRetryAfter(Client):
    """Waits as long as it likes."""

    def on_error(self, error, item):
        super().on_error({**error, "retry_after_ms": 50}, item)


@defect
class Overtakes(Client):
    """Lets what follows pass a message that waits."""

    def on_error(self, error, item):
        super().on_error(error, item)
        self.hold, item["written"] = 0, True
        late = 0.6 if item["id"] == "one" else 0.1
        asyncio.get_running_loop().call_later(error["retry_after_ms"] / 1000 + late, item.update, {"written": False})


@defect
class SteadyRetries(Client):
    """Asks a store that is away every 100 ms."""

    def on_error(self, error, item):
        super().on_error({"retry_after_ms": 100, **error}, item)


@defect
class NeverRenews(Client):
    """Waits until its token has ended."""

    def renew_before(self, exp):
        self.token_at = time.monotonic() + 3600


@defect
class DiesOfNews(Client):
    """Ends where something comes that it does not know."""

    def on_frame(self, frame):
        if frame.get("op") == "brand_new":
            sys.exit("what is that?")
        return super().on_frame(frame)


@defect
class BadFrames(Client):
    """Writes numbers where texts belong."""

    async def write(self, frame):
        await super().write({**frame, "cid": 7} if frame["op"] == "send" else frame)


@defect
class NeverNotices(Client):
    """Waits for a dead connection for ever."""

    async def connection(self, url):
        whole.OPTIONS["ping_interval"] = None
        return await super().connection(url)


asyncio.run(conform.main(DEFECTS[sys.argv[1]]))
