"""Works through a mailbox with Python's own mail modules.

Arguments: user, password, then host:port of imap, pop3, lmtp, and, empty where there is
none, of imaps, pop3s, submission, submissions, and the file of the certificate authority.
"""

import email
import imaplib
import poplib
import smtplib
import ssl
import sys
from email.message import EmailMessage

user, password, imap, pop3, lmtp, imaps, pop3s, submission, submissions, ca = sys.argv[1:]


def split(addr):
    host, port = addr.rsplit(":", 1)
    return host, int(port)


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


def message(subject):
    m = EmailMessage()
    m["From"] = "Python <%s>" % user
    m["To"] = user
    m["Subject"] = subject
    m["Message-ID"] = "<%s@py.example>" % subject.encode("ascii", "ignore").decode().replace(" ", ".")
    m.set_content("Text with umlauts: \u00e4\u00f6\u00fc\n.\n..\nend\n")
    m.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="\u00e4.bin")
    return m


def mailboxes(m):
    ok(m.create("Py"))
    ok(m.create("Py/Gr&APwA3w-e"))
    names = b"\n".join(ok(m.list('""', '"Py*"')))
    assert b"Gr&APwA3w-e" in names, names
    ok(m.subscribe("Py"))
    assert b"Py" in b"".join(ok(m.lsub('""', '"Py"')))
    ok(m.rename("Py/Gr&APwA3w-e", "Py/other"))
    ok(m.delete("Py/other"))
    assert m.create("Py")[0] == "NO"
    assert m.select("Py/none")[0] == "NO"


def messages(m):
    raw = message("first").as_bytes(policy=email.policy.SMTP)
    for i in range(10):
        ok(m.append("Py", r"(\Flagged)" if i % 2 else None, '"04-Mar-2024 10:11:12 +0100"', raw))
    assert ok(m.select("Py")) == [b"10"]
    data = ok(m.fetch("3", "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"))
    assert data[0][1] == raw, "the bytes came back different"
    assert b"%d" % len(raw) in data[0][0]
    assert imaplib.Internaldate2tuple(b'* INTERNALDATE "04-Mar-2024 10:11:12 +0100"') == imaplib.Internaldate2tuple(data[0][0]) or \
        imaplib.Internaldate2tuple(data[1]) is not None, data
    assert ok(m.search(None, "FLAGGED")) == [b"2 4 6 8 10"]
    assert ok(m.search(None, "SUBJECT", "first", "UNSEEN")) == [b"1 2 3 4 5 6 7 8 9 10"]
    assert ok(m.search("UTF-8", "BODY", '"umlauts"'))[0].split()[:1] == [b"1"]
    ok(m.store("1:3", "+FLAGS", r"(\Deleted $Label1)"))
    ok(m.copy("4:5", "INBOX"))
    ok(m.expunge())
    assert ok(m.search(None, "ALL")) == [b"1 2 3 4 5 6 7"]
    assert ok(m.uid("SEARCH", None, "ALL")) == [b"4 5 6 7 8 9 10"]
    assert ok(m.status("Py", "(MESSAGES UIDNEXT UNSEEN)"))[0].find(b"MESSAGES 7") > 0
    part = ok(m.fetch("1", "(BODY.PEEK[1] BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
    assert b"Subject: first" in b"".join(p[1] for p in part if isinstance(p, tuple)), part
    ok(m.close())
    ok(m.delete("Py"))
    ok(m.logout()) if False else m.logout()


def extensions(m):
    """Goes through what imaplib has a method for beyond the base, and some that it has not."""
    ok(m.create("Ext"))
    for i, text in enumerate(["apple", "pear", "Re: apple"]):
        raw = message(text)
        if i == 2:
            raw["References"] = "<apple@py.example>"
        ok(m.append("Ext", r"(\Seen)", None, raw.as_bytes(policy=email.policy.SMTP)))
        uid = m.untagged_responses.get("APPENDUID", [b""])[-1]
        assert uid.split()[1] == b"%d" % (i + 1), uid
    ok(m.select("Ext"))
    assert m.response("UIDNEXT")[1] == [b"4"]
    assert ok(m.sort("(REVERSE SUBJECT)", "UTF-8", "ALL")) == [b"2 1 3"] or ok(m.sort("(SUBJECT)", "UTF-8", "ALL")) == [b"1 3 2"]
    assert ok(m.thread("REFERENCES", "UTF-8", "ALL")) == [b"(1 3)(2)"]
    assert ok(m.uid("THREAD", "ORDEREDSUBJECT", "UTF-8", "SUBJECT", "apple")) == [b"(1 3)"]
    assert ok(m.uid("SORT", "(SIZE)", "UTF-8", "SEEN"))[0].count(b" ") == 2
    assert ok(m.uid("SEARCH", "RETURN", "(MIN MAX COUNT)", "SUBJECT", "apple")) == [None]
    assert b"MIN 1 MAX 3 COUNT 2" in m.response("ESEARCH")[1][0]
    assert b'(("" "/"))' in ok(m.namespace())[0]
    root = ok(m.getquotaroot("INBOX"))
    assert root[0][0].startswith(b"INBOX"), root
    if "ACL" in m.capabilities:
        assert b"lr" in ok(m.myrights("Ext"))[0]
        ok(m.setacl("Ext", "bob@martlet.test", "lr"))
        assert b"bob@martlet.test lr" in ok(m.getacl("Ext"))[0]
        ok(m.deleteacl("Ext", "bob@martlet.test"))
        assert b"bob@" not in ok(m.getacl("Ext"))[0]
    if "MOVE" in m.capabilities:
        assert ok(m.uid("MOVE", "2", "INBOX")) is not None
        assert m.response("EXPUNGE")[1] == [b"2"]
    ok(m.fetch("1:*", "(UID FLAGS MODSEQ)" if "CONDSTORE" in m.capabilities else "(UID FLAGS)"))
    assert ok(m.uid("FETCH", "1", "(BINARY.SIZE[1] BODY.PEEK[1]<0.4>)") if "BINARY" in m.capabilities else m.noop())
    ok(m.check())
    assert m.recent()[0] == "OK"
    ok(m.unselect())
    assert m.state == "AUTH"
    ok(m.subscribe("Ext"))
    ok(m.unsubscribe("Ext"))
    ok(m.rename("Ext", "Ext2"))
    ok(m.delete("Ext2"))
    typ, data = m.xatom("ID", '("name" "imaplib")')
    assert typ == "OK", data
    for bad in (lambda: m._simple_command("SELECT"), lambda: m.uid("FETCH", "1", "(NONSENSE)")):
        try:
            bad()
        except imaplib.IMAP4.error:
            continue
        sys.exit("nonsense was taken")


def in_utf8(m):
    """A session in UTF-8 (RFC 6855)."""
    ok(m.enable("UTF8=ACCEPT"))
    name = '"Gr\u00fc\u00dfe \u65e5\u672c"'
    ok(m.create(name))
    raw = "From: a@py.example\r\nSubject: \u65e5\u672c\r\n\r\n\u672c\r\n".encode()
    m.literal = raw  # append() would put "UTF8 (" inside the literal
    ok(m._simple_command("APPEND", name))
    assert ok(m.select(name)) == [b"1"]
    assert ok(m.fetch("1", "(BODY.PEEK[])"))[0][1] == raw
    assert name.encode() in b"".join(ok(m.list('""', '"Gr*"')))
    ok(m.close())
    ok(m.delete(name))


def collect(p, sent):
    count, size = p.stat()
    found = 0
    for i in range(1, count + 1):
        raw = b"\r\n".join(p.retr(i)[1]) + b"\r\n"
        size -= len(raw)
        found += any(raw.endswith(s) for s in sent)
        assert p.top(i, 0)[1]
    assert size == 0, "STAT is off by %d" % size
    assert found == len(sent), "%d of %d messages found" % (found, len(sent))
    ids = [line.split()[1] for line in p.uidl()[1]]
    assert len(set(ids)) == count
    p.dele(1)
    p.rset()
    p.noop()
    p.quit()
    return ids


def deliver():
    sent = []
    with smtplib.LMTP(*split(lmtp)) as s:
        for i in range(5):
            m = message("over lmtp %d" % i)
            assert s.sendmail("py@example.org", [user], m.as_bytes(policy=email.policy.SMTP)) == {}
            sent.append(m.as_bytes(policy=email.policy.SMTP))
    return sent


sent = deliver()
m = imaplib.IMAP4(*split(imap))
try:
    m.login(user, "wrong")
    sys.exit("a wrong password was taken")
except imaplib.IMAP4.error:
    pass
ok(m.login(user, password))
mailboxes(m)
messages(m)
p = poplib.POP3(*split(pop3))
p.user(user)
p.pass_(password)
ids = collect(p, sent)

if imaps:
    context = ssl.create_default_context(cafile=ca)
    for connect in (lambda: imaplib.IMAP4_SSL(*split(imaps), ssl_context=context), lambda: imaplib.IMAP4(*split(imap))):
        m = connect()
        if not isinstance(m, imaplib.IMAP4_SSL):
            ok(m.starttls(context))
        ok(m.authenticate("PLAIN", lambda _: b"\0%s\0%s" % (user.encode(), password.encode())))
        extensions(m)
        in_utf8(m)
        ok(m.select("INBOX", readonly=True))
        m.logout()
    p = poplib.POP3(*split(pop3))
    p.stls(context)
    p.user(user)
    p.pass_(password)
    assert collect(p, sent) == ids, "UIDL values changed"
    p = poplib.POP3_SSL(*split(pop3s), context=context)
    assert "UIDL" in p.capa()
    p.user(user)
    p.pass_(password)
    assert collect(p, sent) == ids, "UIDL values changed"
    with smtplib.SMTP(*split(submission)) as s:
        s.starttls(context=context)
        s.login(user, password)
        s.send_message(message("over submission"))
        refused = s.sendmail(user, [user, "nobody@martlet.test"], message("to two").as_string())
        assert list(refused) == ["nobody@martlet.test"], refused
        try:
            s.sendmail(user, ["nobody@martlet.test"], "x")
            sys.exit("mail to nobody was taken")
        except smtplib.SMTPRecipientsRefused:
            pass
    with smtplib.SMTP_SSL(*split(submissions), context=context) as s:
        s.login(user, password)
        m = message("\u00fcber TLS")
        s.send_message(m)
    m = imaplib.IMAP4(*split(imap))
    ok(m.login(user, password))
    ok(m.select("INBOX"))
    for subject in ("over submission", "to two"):
        assert ok(m.search(None, "SUBJECT", '"%s"' % subject)) != [b""], subject
    m.logout()
print("all done")
