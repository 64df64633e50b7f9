package importimap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/provider"
)

var built string

func TestMain(m *testing.M) {
	if os.Getenv("MARTLET_PEERS") == "" {
		fmt.Println("importimap: skipped; MARTLET_PEERS=1 runs it")
		return
	}
	code := 1
	if built = os.Getenv("MARTLET_BINARY"); built == "" {
		dir, err := os.MkdirTemp("", "importimap-")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		defer os.RemoveAll(dir)
		built = filepath.Join(dir, "martlet")
		if out, err := exec.Command("go", "build", "-o", built, "github.com/martlet-mail/martlet/cmd/martlet").CombinedOutput(); err != nil {
			fmt.Printf("%v: %s\n", err, out)
			os.Exit(1)
		}
	}
	code = m.Run()
	if os.Getenv("MARTLET_BINARY") == "" {
		os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

// count is how many messages a source has.
func count() int {
	if n, err := strconv.Atoi(os.Getenv("MARTLET_IMPORT_MESSAGES")); err == nil {
		return n
	}
	return 2000
}

func startMartlet(t *testing.T) *martlet.Server {
	t.Helper()
	s, err := martlet.Start(martlet.Options{Binary: built, Dir: t.TempDir(), Accounts: []string{"carol"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	c := here(t, s) // without the letter that greets
	if _, err := c.Select(t.Context(), "INBOX", imapc.Select{}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Expunge(t.Context(), mail.UIDSet{{From: 1, To: 9}})
	must(t, err)
	return s
}

// nasty are names of mailboxes in UTF-8, levels by "/", as servers and people have them.
var nasty = []string{
	"Entwürfe 2009", "Reisén/日本語/Год", "Work & Play", "Sp ace / trailing ", "\"quotes\" and \\back\\", "(parens) {3}", "tilde~#hash", "ALL CAPS", "all caps", "NIL",
	"very " + strings.Repeat("long ", 20) + "name", "😀 emoji", "a/b/c/d/e/f/g/h", "[Gmail]", "e\u0301 decomposed",
}

// stock fills a source: n messages over INBOX and nasty mailboxes.
func stock(t *testing.T, c *imapc.Client, sep string, n int, seed uint64) {
	t.Helper()
	ctx := t.Context()
	rnd := rand.New(rand.NewPCG(seed, 1))
	ns, err := c.Namespaces(ctx)
	must(t, err)
	prefix := ""
	if len(ns.Personal) > 0 {
		prefix = ns.Personal[0].Prefix
	}
	boxes := []string{"INBOX"}
	for _, name := range nasty {
		if sep != "/" {
			name = strings.ReplaceAll(name, sep, "_")
		}
		wire := prefix + encode(strings.ReplaceAll(name, "/", sep))
		if err := c.Create(ctx, wire, ""); err != nil {
			t.Logf("the source takes no mailbox %q: %v", name, err)
			continue
		}
		if rnd.IntN(2) == 0 {
			must(t, c.Subscribe(ctx, wire))
		}
		boxes = append(boxes, wire)
	}
	for i := 0; i < n; {
		box := boxes[0]
		if rnd.IntN(3) > 0 {
			box = boxes[rnd.IntN(len(boxes))]
		}
		var list []imapc.Appending
		for range min(1+rnd.IntN(100), n-i) {
			list = append(list, letter(rnd, i))
			i++
		}
		done, err := c.Append(ctx, box, list)
		must(t, err)
		for _, d := range done {
			must(t, d.Err)
		}
	}
}

var keywords = []string{"$Forwarded", "$Junk", "NonJunk", "$MDNSent", "work", "later"}

// letter is a message of 300 bytes to some kilobytes, now and then of a megabyte.
func letter(rnd *rand.Rand, i int) imapc.Appending {
	size := 200 + rnd.IntN(8000)
	if rnd.IntN(500) == 0 {
		size = 1_500_000
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From: a%d@example.net\r\nSubject: letter %d\r\nMessage-ID: <l%d@example.net>\r\nDate: Tue, 3 Feb 2009 04:05:06 +0100\r\n\r\n", i, i, i)
	for b.Len() < size {
		fmt.Fprintf(&b, "%x %x %x\r\n", rnd.Uint64(), rnd.Uint64(), rnd.Uint64())
	}
	var keys []string
	for _, k := range keywords {
		if rnd.IntN(6) == 0 {
			keys = append(keys, k)
		}
	}
	at := time.Date(1996+rnd.IntN(30), time.Month(1+rnd.IntN(12)), 1+rnd.IntN(28), rnd.IntN(24), rnd.IntN(60), rnd.IntN(60), 0, time.FixedZone("", (rnd.IntN(25)-12)*1800))
	return imapc.Appending{Flags: mail.Flags(rnd.IntN(32)) &^ mail.Deleted, Keywords: keys, Date: at, Size: int64(b.Len()), Body: strings.NewReader(b.String())}
}

// row is a message as one side has it.
type row struct{ flags, keywords, date, sum string }

// census reads all of an account: by mailbox, in the order of UIDs.
func census(t *testing.T, c *imapc.Client) map[string][]row {
	t.Helper()
	ctx := t.Context()
	all, err := c.List(ctx)
	must(t, err)
	out := map[string][]row{}
	for _, m := range all {
		if m.NoSelect {
			continue
		}
		sel, err := c.Select(ctx, m.Wire, imapc.Select{ReadOnly: true})
		must(t, err)
		name := norm.NFC.String(strings.ReplaceAll(m.Name, string(rune(m.Separator)), "/")) // as every name is here
		out[name] = []row{}
		if sel.Exists == 0 {
			continue
		}
		uids, err := c.Search(ctx, "ALL")
		must(t, err)
		rows := map[mail.UID]*row{}
		must(t, c.Fetch(ctx, imapc.Query{UIDs: uids, Flags: true, Date: true}, func(m *imapc.Message) error {
			keys := slices.Clone(m.Keywords)
			slices.Sort(keys)
			rows[m.UID] = &row{flags: m.Flags.String(), keywords: fmt.Sprint(keys), date: m.Date.UTC().Format(time.RFC3339)}
			return nil
		}))
		must(t, c.Fetch(ctx, imapc.Query{UIDs: uids, Body: true}, func(m *imapc.Message) error {
			h := sha256.New()
			if _, err := io.Copy(h, m.Body); err != nil {
				return err
			}
			rows[m.UID].sum = fmt.Sprintf("%x", h.Sum(nil)[:8])
			return nil
		}))
		for u := range uids.All() {
			out[name] = append(out[name], *rows[u])
		}
	}
	return out
}

// equal compares source and account, mailbox by mailbox; inOrder: message by message.
func equal(t *testing.T, there, here map[string][]row, inOrder bool) {
	t.Helper()
	n := 0
	for name, want := range there {
		got := here[name]
		if !inOrder {
			want, got = sorted(want), sorted(got)
		}
		n += len(want)
		if !slices.Equal(want, got) {
			t.Errorf("%q: %d messages there, %d here, or they differ", name, len(want), len(got))
			for i := range min(len(want), len(got)) {
				if want[i] != got[i] {
					t.Errorf("message %d: %+v there, %+v here", i, want[i], got[i])
					break
				}
			}
		}
	}
	t.Logf("%d messages in %d mailboxes compared", n, len(there))
}

func sorted(rows []row) []row {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return rows
}

// run runs martlet import imap.
func run(ctx context.Context, m *martlet.Server, addr, user, password string, args ...string) (string, error) {
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.CommandContext(ctx, built, append([]string{"import", "imap", "--from", "imap://" + net.JoinHostPort(host, port), "--user", user, "--password-stdin",
		"--to", m.Account("carol").Address, "--config", m.Config, "--json"}, args...)...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(password+"\n"), &out, &out
	err := cmd.Run()
	return out.String(), err
}

func here(t *testing.T, m *martlet.Server) *imapc.Client {
	t.Helper()
	opt := options(t, m.Addr("imap"))
	opt.Insecure = true
	a := m.Account("carol")
	return connect(t, opt, imapc.Credentials{User: a.Address, Password: a.Password})
}

func seed(t *testing.T) uint64 {
	n := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("MARTLET_SEED"), 10, 64); err == nil {
		n = v
	}
	t.Logf("MARTLET_SEED=%d", n)
	return n
}

func TestImportFromDovecot(t *testing.T) {
	d := startDovecot(t)
	c := connect(t, options(t, d.IMAP), imapc.Credentials{User: "carol", Password: dovecot.Password})
	stock(t, c, "/", count(), seed(t))
	m := startMartlet(t)
	plan, err := run(t.Context(), m, d.IMAP, "carol", dovecot.Password, "--plan")
	if err != nil {
		t.Fatalf("%v: %s", err, plan)
	}
	begun := time.Now()
	out, err := run(t.Context(), m, d.IMAP, "carol", dovecot.Password)
	if err != nil {
		t.Fatalf("%v: %s", err, out[max(0, len(out)-3000):])
	}
	t.Logf("%d messages in %v", count(), time.Since(begun))
	there := census(t, c)
	equal(t, there, census(t, here(t, m)), true)
	// Again brings nothing.
	out, err = run(t.Context(), m, d.IMAP, "carol", dovecot.Password, "--no-proof")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	equal(t, there, census(t, here(t, m)), true)
}

// A source that is restored from a backup has other UIDs: nothing comes twice, and what is
// new comes.
func TestImportAfterRenumbering(t *testing.T) {
	d := startDovecot(t)
	cred := imapc.Credentials{User: "carol", Password: dovecot.Password}
	c := connect(t, options(t, d.IMAP), cred)
	must(t, c.Create(t.Context(), "Box", ""))
	give := func(from, to int) {
		var list []imapc.Appending
		for i := from; i < to; i++ {
			list = append(list, appending(message(i/2), mail.Seen)) // each twice
		}
		done, err := c.Append(t.Context(), "Box", list)
		must(t, err)
		for _, a := range done {
			must(t, a.Err)
		}
	}
	give(0, 40)
	m := startMartlet(t)
	if out, err := run(t.Context(), m, d.IMAP, "carol", dovecot.Password, "--mailbox", "Box"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, c.Delete(t.Context(), "Box"))
	time.Sleep(1100 * time.Millisecond) // UIDVALIDITY is a time
	must(t, c.Create(t.Context(), "Box", ""))
	give(0, 40)
	give(100, 110)
	for range 2 {
		if out, err := run(t.Context(), m, d.IMAP, "carol", dovecot.Password, "--mailbox", "Box"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		equal(t, map[string][]row{"Box": census(t, c)["Box"]}, census(t, here(t, m)), false)
	}
}

// The whole program is as large for a large mailbox as for a small one. MARTLET_IMPORT_GB
// says how much is brought.
func TestMemoryOfTheProgram(t *testing.T) {
	peers(t)
	gb := 0.2
	if v, err := strconv.ParseFloat(os.Getenv("MARTLET_IMPORT_GB"), 64); err == nil {
		gb = v
	}
	var peak []int64
	for _, e := range []*provider.Endless{{Messages: 1000, Bytes: 100_000}, {Messages: int(gb * 1e9 / 100_000), Bytes: 100_000}} {
		m := startMartlet(t)
		begun := time.Now()
		cmd := exec.Command(built, "import", "imap", "--from", "imap://"+e.Start(t), "--user", "carol", "--password-stdin", "--to", m.Account("carol").Address, "--config", m.Config)
		cmd.Stdin = strings.NewReader("none\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID))
		_, high, _ := strings.Cut(string(status), "VmHWM:")
		high, _, _ = strings.Cut(high, "\n")
		t.Logf("%d messages, %d MB, in %v: the program %d MB, the server %s at most", e.Messages, e.Messages*e.Bytes>>20, time.Since(begun).Round(time.Millisecond), rss>>10, strings.TrimSpace(high))
		peak = append(peak, rss)
		m.Stop()
	}
	if peak[1] > peak[0]*3/2+20<<10 {
		t.Errorf("%d KB for the large mailbox, %d for the small one", peak[1], peak[0])
	}
}
