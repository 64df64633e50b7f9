package attacks

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/serve/netsrv"
	"github.com/martlet-mail/martlet/test/house"
)

// listed returns the names that LIST gives.
func listed(t *testing.T, c *house.Client, pattern string) []string {
	t.Helper()
	var names []string
	for _, line := range tagged(t, c, "LIST \"\" "+pattern, "OK") {
		_, name, _ := strings.Cut(line, "\"/\" ")
		names = append(names, strings.Trim(name, "\""))
	}
	slices.Sort(names)
	return names
}

// A mailbox's name is a key of the store, whatever it looks like; what no name may be is
// refused, and nothing is made.
func TestAttack43Paths(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	before := listed(t, c, "*")
	for _, name := range []string{
		"/", "//", "a//b", "/a", "", "a\x01b", "a\rb", "a*b", "a%b", strings.Repeat("a", 4096), strings.Repeat("a/", 999) + "a",
	} {
		tagged(t, c, fmt.Sprintf("CREATE {%d+}\r\n%s", len(name), name), "NO|BAD")
	}
	if after := listed(t, c, "*"); !slices.Equal(before, after) {
		t.Errorf("there is something new: %v", after)
	}
	for _, name := range []string{"../x", "..", ".", "a/../../b", "~root", "c:", "NUL", "a\\b", "$(id)"} {
		_, got := c.Tagged("t", fmt.Sprintf("CREATE {%d+}\r\n%s", len(name), name))
		made := strings.HasPrefix(got, "t OK")
		_, status := c.Tagged("t", fmt.Sprintf("STATUS {%d+}\r\n%s (MESSAGES)", len(name), name))
		if made != strings.HasPrefix(status, "t OK") { // taken as it is, or not at all
			t.Errorf("CREATE %q: %s, STATUS: %s", name, got, status)
		}
	}
	sound(t, h)
}

// A name has one form in modified UTF-7; another spelling of it is no name.
func TestAttack44UTF7(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	before := listed(t, c, "*")
	for _, name := range []string{
		"&AC8-", "&", "a&", "&-&", "&AGE-", "&AGEAYg-", "INB&AE8-X", "&2AA-", "&3AA-", "&2ADYAA-", "&APw", "&AP-", "&APwA-", "&APw=-", "&AAA-", "&AP,-", "&APwAPw-x&-&", "&AAo-",
	} {
		tagged(t, c, "CREATE \""+name+"\"", "NO|BAD")
	}
	if after := listed(t, c, "*"); !slices.Equal(before, after) {
		t.Errorf("there is something new: %v", after)
	}
	tagged(t, c, "CREATE \"&APwA9g-\"", "OK")
	tagged(t, c, "CREATE \"&APw-&APY-\"", "NO|BAD")
	tagged(t, c, "CREATE \"a&-b\"", "OK")
	sound(t, h)
}

// INBOX is one mailbox in any case; twins that look alike are told apart by one rule.
func TestAttack45Twins(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	for _, name := range []string{"inbox", "InBoX", "INBOX/", "inbox/"} {
		tagged(t, c, "CREATE \""+name+"\"", "NO")
	}
	tagged(t, c, "RENAME Archive inbox", "NO")
	tagged(t, c, "DELETE iNbOx", "NO")
	tagged(t, c, "SELECT inBOX", "OK")
	tagged(t, c, "CREATE twin/", "OK")
	tagged(t, c, "CREATE twin", "NO")
	tagged(t, c, "ENABLE UTF8=ACCEPT", "OK")
	tagged(t, c, "CREATE \"caf\u00e9\"", "OK")
	tagged(t, c, "CREATE \"cafe\u0301\"", "NO|OK") // the same in NFC: one of the two rules, and then it stays so
	twins := 0
	for _, name := range listed(t, c, "*") {
		if strings.HasPrefix(name, "caf") {
			twins++
		}
	}
	if twins != 1 {
		t.Errorf("%d names look like caf\u00e9", twins)
	}
	tagged(t, c, "CREATE \"\u0406NBOX\"", "OK") // a Cyrillic letter: another name, as any
	sound(t, h)
}

// Matching a pattern takes time in proportion, however many wildcards it has.
func TestAttack46Wildcards(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	c := login(t, h, "alice")
	for n := range 200 {
		tagged(t, c, fmt.Sprintf("CREATE %s%d", strings.Repeat("a", 60), n), "OK")
	}
	for _, pattern := range []string{strings.Repeat("*a", 200) + "b", strings.Repeat("*%", 200) + "b", strings.Repeat("%a", 100) + "*b", strings.Repeat("*", 2000) + "b"} {
		if got := tagged(t, c, "LIST \"\" \""+pattern+"\"", "OK|BAD"); len(got) != 0 {
			t.Errorf("%.20s: %d names", pattern, len(got))
		}
	}
	sound(t, h)
}

// Every command that names a mailbox answers for another's as for one that is not there.
func TestAttack47Others(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	h.Account(t, "bob")
	bob := login(t, h, "bob")
	tagged(t, bob, "CREATE Secret", "OK")
	c := login(t, h, "alice")
	space := namespace(t, c)
	there, nowhere := space+"bob@example.org/Secret", space+"bob@example.org/Nowhere"
	nobody := space + "nobody@example.org/Secret"
	for _, command := range []string{
		"SELECT \"%s\"", "EXAMINE \"%s\"", "STATUS \"%s\" (MESSAGES)", "CREATE \"%s/x\"", "DELETE \"%s\"", "RENAME \"%s\" Mine", "RENAME Archive \"%s/x\"", "SUBSCRIBE \"%s\"",
		"APPEND \"%s\" {1+}\r\nx", "COPY 1:* \"%s\"", "MOVE 1:* \"%s\"", "GETACL \"%s\"", "SETACL \"%s\" alice@example.org lrs", "DELETEACL \"%s\" bob@example.org", "LISTRIGHTS \"%s\" alice@example.org",
		"MYRIGHTS \"%s\"", "GETMETADATA \"%s\" (/private/comment)", "SETMETADATA \"%s\" (/private/comment \"x\")", "GETQUOTAROOT \"%s\"", "ESEARCH IN (mailboxes \"%s\") ALL",
		"NOTIFY SET (mailboxes \"%s\" (MessageNew MessageExpunge))", "LIST \"\" \"%s\"", "GENURLAUTH \"imap://alice@example.org@example.org/%s;UIDVALIDITY=1/;UID=1;URLAUTH=anonymous\" INTERNAL",
		"RESETKEY \"%s\"",
	} {
		ask := func(name string) string {
			tagged(t, c, "UNSELECT", "OK|BAD|NO") // or SELECT would say that it closes something
			untagged, got := c.Tagged("t", fmt.Sprintf(command, name))
			return strings.ReplaceAll(strings.Join(append(untagged, got), "\n"), name, "NAME")
		}
		real, gone, strange := ask(there), ask(nowhere), ask(nobody)
		if real != gone || real != strange {
			t.Errorf("%s tells what is there:\n%s\n%s\n%s", command, real, gone, strange)
		}
	}
	if got := listed(t, c, "*"); slices.ContainsFunc(got, func(n string) bool { return strings.Contains(n, "Secret") }) {
		t.Errorf("listed: %v", got)
	}
	sound(t, h)
}

// namespace returns the prefix of other users' mailboxes.
func namespace(t *testing.T, c *house.Client) string {
	t.Helper()
	for _, line := range tagged(t, c, "NAMESPACE", "OK") {
		parts := strings.Split(line, "((\"")
		if len(parts) > 2 {
			name, _, _ := strings.Cut(parts[2], "\"")
			return name
		}
	}
	t.Fatal("there is no namespace of other users")
	return ""
}

// Who logs in is who he is from then on: no second login, and nothing left of the first
// one after UNAUTHENTICATE.
func TestAttack48States(t *testing.T) {
	h := house.New(t, house.Options{IMAP: forgiving})
	h.Account(t, "alice")
	h.Account(t, "bob")
	b := login(t, h, "bob")
	appendAll(t, b, "Subject: bob's\r\n\r\n")
	c := login(t, h, "alice")
	tagged(t, c, "LOGIN bob@example.org \""+house.Password+"\"", "BAD|NO")
	tagged(t, c, "AUTHENTICATE PLAIN "+plain("bob@example.org", house.Password), "BAD|NO")
	if got := tagged(t, c, "FETCH 1:* ENVELOPE", "OK|BAD"); len(got) != 0 {
		t.Errorf("alice sees %v", got)
	}
	tagged(t, c, "UNAUTHENTICATE", "OK")
	tagged(t, c, "FETCH 1 FLAGS", "BAD")
	tagged(t, c, "SELECT INBOX", "BAD")
	tagged(t, c, "LOGIN bob@example.org \"wrong\"", "NO")
	tagged(t, c, "SELECT INBOX", "BAD")
	tagged(t, c, "LOGIN bob@example.org \""+house.Password+"\"", "OK")
	got := tagged(t, c, "SELECT INBOX", "OK")
	if !slices.Contains(got, "* 1 EXISTS") {
		t.Errorf("bob sees %v", got)
	}
	// A pipelined login fails or works for itself; what follows a failed one is not bob's.
	c = greet(t, h)
	c.Send("a LOGIN bob@example.org wrong\r\nb SELECT INBOX\r\n")
	if _, got := c.Until("b"); !strings.HasPrefix(got, "b BAD") {
		t.Errorf("behind a login that failed: %s", got)
	}
	sound(t, h)
}

// One user has so many sessions and no more, whatever they wait for.
func TestAttack52Waiting(t *testing.T) {
	const most = 20
	h := house.New(t, house.Options{Sessions: func(o *netsrv.Options) { o.MaxPerAccount = most }})
	h.Account(t, "alice")
	h.Account(t, "bob")
	waiting := 0
	for n := range 3 * most {
		c := greet(t, h)
		_, got := c.Tagged("t", "LOGIN alice@example.org \""+house.Password+"\"")
		if !strings.HasPrefix(got, "t OK") {
			if n < most || !strings.HasPrefix(got, "t NO [LIMIT]") && !strings.HasPrefix(got, "t NO [UNAVAILABLE]") {
				t.Errorf("session %d: %s", n, got)
			}
			continue
		}
		waiting++
		tagged(t, c, "NOTIFY SET (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))", "OK|NO")
		tagged(t, c, "SELECT INBOX", "OK")
		c.Send("t IDLE\r\n")
	}
	if waiting != most {
		t.Errorf("%d sessions wait", waiting)
	}
	c := login(t, h, "bob")
	appendAll(t, c, "Subject: x\r\n\r\n")
	sound(t, h)
}
