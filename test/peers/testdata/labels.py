"""Labels as scripts for Gmail use them, with Python's imaplib.

Arguments: user, password, host:port of imap.
"""

import imaplib
import re
import sys

user, password, imap = sys.argv[1:]


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def message(n):
    return ("From: a@example.org\r\nTo: %s\r\nSubject: label %d\r\nMessage-ID: <%d@labels.example>\r\n\r\nText %d\r\n" % (user, n, n, n)).encode()


def items(m, what):
    """Returns for each UID what FETCH says."""
    found = {}
    for line in ok(m.uid("FETCH", "1:*", "(%s)" % what)):
        line = line.decode()
        found[int(re.search(r"UID (\d+)", line).group(1))] = re.search(re.escape(what) + r" (\([^)]*\)|\d+)", line).group(1)
    return found


m = imaplib.IMAP4(*imap.rsplit(":", 1))
ok(m.login(user, password))
assert "X-GM-EXT-1" in ok(m.capability())[0].decode()
ok(m.select("INBOX"))
ok(m.store("1:*", "+FLAGS.SILENT", r"(\Deleted)"))  # what was there before
ok(m.close())
for n in range(4):
    ok(m.append("INBOX", r"(\Seen)", None, message(n)))
ok(m.select("INBOX"))
ids = items(m, "X-GM-MSGID")
assert len(set(ids.values())) == 4, ids
first, second, third, fourth = sorted(ids)

# One message gets two labels, another one is archived, a third one goes to the trash.
answer = ok(m.store("1", "+X-GM-LABELS", '(work "New Label")'))
assert b'"New Label" work' in answer[0], answer
ok(m.uid("STORE", str(second), "-X-GM-LABELS", r"(\\Inbox)"))
ok(m.uid("STORE", str(third), "+X-GM-LABELS", r"\Trash"))
assert items(m, "X-GM-LABELS") == {first: '("New Label" work)', fourth: "()"}, items(m, "X-GM-LABELS")
for box, uid in (("work", first), ('"New Label"', first), ("Archive", second), ("Trash", third)):
    ok(m.select(box))
    assert list(items(m, "X-GM-MSGID").values()) == [ids[uid]], box
ok(m.select("work"))
assert items(m, "X-GM-LABELS") == {1: r'("\\Inbox" "New Label")'}
assert items(m, "FLAGS") == {1: r"(\Seen)"} or items(m, "FLAGS") == {1: r"(\Seen \Recent)"}

# They are found by number, label and words.
ok(m.select("INBOX"))
for key, value, want in (
    ("X-GM-MSGID", ids[fourth], [fourth]), ("X-GM-LABELS", "work", [first]), ("X-GM-LABELS", '"New Label"', [first]),
    ("X-GM-RAW", '"subject:(label 3) is:read -label:work"', [fourth]), ("X-GM-RAW", '"label:new-label OR rfc822msgid:3@labels.example"', [first, fourth]),
):
    found = ok(m.uid("SEARCH", None, key, str(value)))
    assert found == [" ".join(map(str, want)).encode()], (key, value, found)
ok(m.close())
m.logout()
print("all done")
