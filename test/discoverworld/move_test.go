package discoverworld

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	chance "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
	"github.com/martlet-mail/martlet/test/world/lab"
)

// account is one at an IMAP server of the world, over its port 143.
func account(t *testing.T, h *lab.Host, user, password string) *imapsource.Source {
	t.Helper()
	s := imapsource.New(imapsource.Options{
		User: user,
		IMAP: imapc.Options{
			Host: "127.0.0.1", Port: 143, Security: imapc.OfferedTLS, Insecure: true, Now: time.Now, Random: rand.Reader,
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				return h.DialContext(ctx, network, address)
			},
		},
		Credentials: func(context.Context) (imapc.Credentials, error) {
			return imapc.Credentials{User: user, Password: password}, nil
		},
	})
	t.Cleanup(func() { s.Close() })
	return s
}

// places are the mailboxes that the person has at the provider, and what they are called here.
var places = []struct {
	there, here string
	n           int
}{
	{"INBOX", "INBOX", 400}, {"Sent Items", "Sent", 100}, {"Drafts", "Drafts", 5}, {"Work & Größe/日本語", "Work & Größe/日本語", 80}, {"Re: [lists] & more", "Re: [lists] & more", 3}, {"Empty one", "Empty one", 0},
}

func fill(t *testing.T, s *imapsource.Source) {
	t.Helper()
	ctx := t.Context()
	for _, p := range places {
		source, err := s.CreateMailbox(ctx, p.there, "", true)
		must(t, err)
		var list []imapc.Appending
		for n := range p.n {
			text := fmt.Sprintf("From: a@example.net\r\nTo: carol@guess.example\r\nSubject: letter %d\r\nMessage-ID: <%d.%x@example.net>\r\nX-Number: %d\r\nDate: Tue, 3 Feb 2009 04:05:06 +0100\r\n\r\nFrom %d\r\n%s", n, n, p.there, n, n, strings.Repeat("a line of the letter\r\n", n%40))
			words := [][]string{nil, {"$Forwarded"}, {"work", "$Label1"}}[n%3]
			list = append(list, imapc.Appending{Flags: mail.Flags(n % 32), Keywords: words, Date: time.Date(2009, 2, 3, n%24, n%60, 6, 0, time.UTC), Size: int64(len(text)), Body: strings.NewReader(text)})
		}
		for part := range slices.Chunk(list, 300) {
			done, err := s.Append(ctx, source, part, make([]string, len(part)))
			must(t, err)
			for _, d := range done {
				must(t, d.Err)
			}
		}
	}
}

// gathering is all of an account that must be the same.
type gathering struct {
	lines   []string
	mailbox string
}

func (g *gathering) Want(_ context.Context, items []move.Item) ([]bool, error) {
	return slices.Repeat([]bool{true}, len(items)), nil
}

func (g *gathering) Put(_ context.Context, it move.Item, r io.Reader) error {
	var sum move.Summer
	if _, err := io.Copy(&sum, r); err != nil {
		return err
	}
	words := slices.Clone(it.Keywords)
	slices.Sort(words)
	c := sum.Content()
	g.lines = append(g.lines, fmt.Sprintf("%s %x %v %q %s", g.mailbox, c[:8], it.Flags, words, it.Date.UTC().Format(time.RFC3339)))
	return nil
}
func (g *gathering) Skip(_ context.Context, _ move.Item, why error) error { return why }
func (g *gathering) Gone(context.Context, []string) error                 { return nil }
func (g *gathering) State(context.Context, []byte) error                  { return nil }

// gather reads mailboxes; name says what each is called here, "" passes it over.
func gather(t *testing.T, s move.Source, name func(string) string) []string {
	t.Helper()
	list, err := s.Mailboxes(t.Context())
	must(t, err)
	g := &gathering{}
	for _, m := range list {
		if g.mailbox = name(m.Name); g.mailbox == "" {
			continue
		}
		g.lines = append(g.lines, g.mailbox)
		must(t, s.Read(t.Context(), m, move.Reading{}, g))
	}
	slices.Sort(g.lines)
	return g.lines
}

// TestAPersonMovesIn is what somebody does who has an address elsewhere: two commands. The
// second is killed ten times on the way.
func TestAPersonMovesIn(t *testing.T) {
	w := world(t)
	m, err := w.Martlet(w.binary, "martlet.example", lab.Place{Number: 10, Only4: true})
	must(t, err)
	const from, to = "carol@guess.example", "carol@martlet.example"
	must(t, m.Account(to))
	old := account(t, w.provider, from, "secret")
	fill(t, old)

	// The first command.
	found := w.discover(t, from)
	if found.of("imap") != "imap.guess.example:993 tls guess guessed" {
		t.Fatal(found.text)
	}

	// The second, which finds the server itself.
	seed := chance.Uint64()
	t.Logf("seed %d", seed)
	luck := chance.New(chance.NewPCG(seed, 0))
	report := filepath.Join(m.Dir, "report.jsonl")
	args := []string{"import", "imap", "--user", from, "--yes-host", "imap.guess.example", "--password-stdin", "--to", to, "--json", "--report", report, "--config", m.Config}
	killed := 0
	for i := range 10 {
		cmd := m.Command(m.Binary, append(args, "--messages-per-second", "80")...) // or it is done before
		cmd.Stdin = strings.NewReader("secret\n")
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		// Somewhere on the way: of every second run, when something has come.
		events := bufio.NewScanner(out)
		for i%2 == 1 && events.Scan() && !(strings.Contains(events.Text(), `"progress"`) && strings.Contains(events.Text(), `"done"`)) {
		}
		time.Sleep(time.Duration(luck.IntN(1500)) * time.Millisecond)
		if syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) == nil && cmd.Wait() != nil {
			killed++
		}
	}
	cmd := m.Command(m.Binary, args...)
	cmd.Stdin = strings.NewReader("secret\n")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), said.String())
	}
	text, err := os.ReadFile(report)
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var sum struct {
		Event                                       string
		Whole                                       bool
		Messages, Brought, Here, Skipped, Different int64
	}
	must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &sum))
	total := int64(0)
	for _, p := range places {
		total += int64(p.n)
	}
	if killed != 10 || sum.Brought == 0 || sum.Brought == total { // the last run had something to do, and those before had done something
		t.Errorf("killed %d times; the last run brought %d of %d", killed, sum.Brought, total)
	}
	if !sum.Whole || sum.Messages != total || sum.Here != total || sum.Skipped != 0 || sum.Different != 0 {
		t.Fatalf("killed %d times, %d messages: %+v\n%s", killed, total, sum, lines[len(lines)-1])
	}
	t.Logf("killed %d times; the report: %s", killed, lines[len(lines)-1])

	// What the report says is so.
	called := func(there bool) func(string) string {
		return func(name string) string {
			for _, p := range places {
				if there && p.there == name || !there && p.here == name {
					return p.here
				}
			}
			return ""
		}
	}
	want := gather(t, old, called(true))
	got := gather(t, account(t, m.Host, to, lab.Password), called(false))
	if !slices.Equal(want, got) || len(want) < 500 {
		for i := range want {
			if i >= len(got) || want[i] != got[i] {
				t.Fatalf("%d lines of %d; first difference: %s", len(got), len(want), want[i])
			}
		}
		t.Fatalf("%d lines of %d", len(got), len(want))
	}

	// And so it looks in neomutt, at home as it did abroad.
	for _, p := range places {
		if p.n == 0 {
			continue
		}
		before := neomutt(t, w.client, "imap.guess.example", from, "secret", p.there)
		after := neomutt(t, w.client, "imap.martlet.example", to, lab.Password, p.here)
		if !slices.Equal(before, after) || len(after) != p.n {
			t.Errorf("%s: neomutt showed %d messages and shows %d; %.200q\n%.200q", p.here, len(before), len(after), before, after)
		}
	}
}

// neomutt opens a mailbox over TLS and returns number and flags of each message, as it writes
// them into a copy.
func neomutt(t *testing.T, h *lab.Host, host, user, password, mailbox string) []string {
	t.Helper()
	home, err := os.MkdirTemp(h.Dir, "mutt")
	must(t, err)
	copied := filepath.Join(home, "copy")
	rc := filepath.Join(home, "rc")
	must(t, os.Mkdir(filepath.Join(home, "Mail"), 0o700))
	must(t, os.WriteFile(rc, fmt.Appendf(nil, `set imap_user="%s"
set imap_pass="%s"
set ssl_ca_certificates_file=/etc/ssl/certs/ca-certificates.crt
set ssl_force_tls=yes
set folder="imaps://%s/"
set mbox_type=mbox
set auto_tag=yes
set sleep_time=0
set quit=yes
set confirmappend=no
set confirmcreate=no
set delete=no
set mark_old=no
set copy=no
set move=no
set sort=mailbox-order
push "<first-entry><tag-pattern>~A\n<tag-prefix><copy-message>%s\n<exit>"
`, user, password, host, copied), 0o600))
	cmd := h.Command("script", "-qec", fmt.Sprintf("neomutt -n -R -F %s -f '=%s'", rc, mailbox), "/dev/null")
	cmd.Env = append(cmd.Env, "TERM=xterm", "HOME="+home, "LANG=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%q", err, out)
	}
	text, err := os.ReadFile(copied)
	if err != nil {
		t.Fatalf("%v\n%q", err, out)
	}
	var all []string
	for _, one := range strings.Split("\n"+string(text), "\nFrom a@example.net")[1:] {
		head, _, _ := strings.Cut(one, "\n\n")
		flags := map[string]string{}
		for line := range strings.Lines(head) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), ": ")
			flags[k] = v
		}
		all = append(all, fmt.Sprintf("%s %s %s", flags["X-Number"], flags["Status"], flags["X-Status"]))
	}
	slices.Sort(all)
	return all
}
