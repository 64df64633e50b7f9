package movein

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/peers/cyrus"
	"github.com/martlet-mail/martlet/test/peers/dovecot"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// person is one of the domain old.test.
type person struct{ name, password, scheme string }

func (p person) address() string { return p.name + "@old.test" }

var people = []person{
	{"anna", "Veilchen 7", "SHA512-CRYPT"}, {"bert", "Nelke#8", "BLF-CRYPT"}, {"carl", "Rose\"9", "SSHA"},
	{"dora", "Tulpe\\10", "PBKDF2"}, {"eva", "Möhre11", "SHA256-CRYPT"}, {"fritz", "Lilie12", "ARGON2ID"},
}

const master, masterPassword = "chief", "over all 1"

// hashed has Dovecot's own program make a hash.
func hashed(t *testing.T, scheme, password string) string {
	t.Helper()
	out, err := exec.Command("doveadm", "pw", "-s", scheme, "-p", password).Output()
	if err != nil {
		t.Fatalf("doveadm pw: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// former starts the domain's former server, with mail.
func former(t *testing.T) (*dovecot.Server, string) {
	t.Helper()
	var users strings.Builder
	for _, p := range people {
		fmt.Fprintf(&users, "%s:%s::::::\n", p.address(), hashed(t, p.scheme, p.password))
	}
	s, err := dovecot.Run(dovecot.Options{Dir: filepath.Join(t.TempDir(), "dovecot"), Format: dovecot.Maildir, Unsynced: true,
		Users: users.String(), Masters: master + ":" + hashed(t, "SSHA256", masterPassword) + "\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	for _, p := range people {
		fill(t, connect(t, s.IMAP, master, masterPassword, p.address()), p)
	}
	return s, users.String()
}

func connect(t *testing.T, addr, user, password, authz string) *imapc.Client {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	c, err := imapc.Dial(context.Background(), imapc.Options{Host: host, Port: uint16(n), Security: imapc.OfferedTLS, Insecure: true,
		Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader})
	if err == nil {
		err = c.Login(context.Background(), imapc.Credentials{User: user, Password: password, Authz: authz})
	}
	if err != nil {
		t.Fatalf("%s at %s: %v", user, addr, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const perBox = 20

var boxes = []string{"INBOX", "Sent", "Projekte &- Reisen"} // modified UTF-7

// fill puts mail into somebody's mailboxes.
func fill(t *testing.T, c *imapc.Client, p person) {
	t.Helper()
	defer c.Close()
	if err := c.Create(context.Background(), boxes[2], ""); err != nil {
		t.Fatal(err)
	}
	for b, box := range boxes {
		var list []imapc.Appending
		for i := range perBox {
			text := fmt.Sprintf("From: x@example.org\r\nTo: %s\r\nSubject: %d in %d\r\nMessage-ID: <%d.%d@%s>\r\n\r\n%s\r\n", p.address(), i, b, i, b, p.name, strings.Repeat("Zeile\r\n", i*7))
			m := imapc.Appending{Date: time.Date(2020, 1, 1, 0, i, 0, 0, time.UTC), Size: int64(len(text)), Body: strings.NewReader(text)}
			if i%3 == 0 {
				m.Flags = mail.Seen
			}
			list = append(list, m)
		}
		if _, err := c.Append(context.Background(), box, list); err != nil {
			t.Fatal(err)
		}
	}
}

// content is what somebody has: how often each content lies in each mailbox, with its flags;
// with UIDs if these are to be the same.
func content(t *testing.T, c *imapc.Client, withUIDs bool) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, box := range boxes {
		sel, err := c.Select(context.Background(), box, imapc.Select{ReadOnly: true})
		if err != nil {
			t.Fatalf("%s: %v", box, err)
		}
		var uids mail.UIDSet
		uids.AddRange(1, 1<<31)
		err = c.Fetch(context.Background(), imapc.Query{UIDs: uids, Flags: true, Date: true, Body: true}, func(m *imapc.Message) error {
			b, err := io.ReadAll(m.Body)
			key := fmt.Sprintf("%s %x %v %s", box, sha256.Sum256(b), m.Flags, m.Date.UTC())
			if withUIDs {
				key += fmt.Sprintf(" %d.%d", sel.UIDValidity, m.UID)
			}
			all[key]++
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// house is a running martlet with the domain.
type house struct {
	*martlet.Server
	t      *testing.T
	binary string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	dir, binary := t.TempDir(), built(t)
	s, err := martlet.Start(martlet.Options{Binary: binary, Dir: filepath.Join(dir, "data")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(s.Log)
			t.Logf("%s", log[max(0, len(log)-6000):])
		}
	})
	h := &house{s, t, binary}
	h.must("", "domain", "add", "old.test")
	return h
}

// binary is built once, for all tests.
var binary struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(binary.dir)
	os.Exit(code)
}

func built(t *testing.T) string {
	t.Helper()
	if b := os.Getenv("MARTLET_BINARY"); b != "" {
		return b
	}
	binary.once.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "movein"); binary.err != nil {
			return
		}
		if out, err := exec.Command("go", "build", "-o", filepath.Join(binary.dir, "martlet"), "github.com/martlet-mail/martlet/cmd/martlet").CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return filepath.Join(binary.dir, "martlet")
}

// run runs a command beside the server.
func (h *house) run(stdin string, args ...string) (string, error) {
	defer func(began time.Time) { h.t.Logf("%.2fs martlet %q", time.Since(began).Seconds(), args) }(time.Now())
	cmd := exec.Command(h.binary, append(args, "--config", h.Config)...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("martlet %q: %w\n%s%s", args, err, out.String(), errOut.String())
	}
	return out.String(), nil
}

func (h *house) must(stdin string, args ...string) string {
	h.t.Helper()
	out, err := h.run(stdin, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *house) at(protocol string) string { return fmt.Sprintf("127.0.0.1:%d", h.Ports[protocol]) }

// curl logs in as a mail program does.
func (h *house) curl(protocol string, p person) (string, error) {
	args := []string{"--silent", "--show-error", "--max-time", "20", "--user", p.address() + ":" + p.password, protocol + "://" + h.at(map[string]string{"imap": "imap", "pop3": "pop3", "smtp": "submission"}[protocol])}
	if protocol == "smtp" {
		letter := filepath.Join(h.t.TempDir(), "letter")
		os.WriteFile(letter, []byte("From: "+p.address()+"\r\nSubject: from the new server\r\n\r\nx\r\n"), 0o600)
		args = append(args, "--mail-from", p.address(), "--mail-rcpt", "alice@martlet.test", "--upload-file", letter)
	}
	out, err := exec.Command("curl", append(args, "--verbose")...).CombinedOutput()
	return string(out), err
}

func (h *house) logsIn(protocol string, p person) {
	h.t.Helper()
	if out, err := h.curl(protocol, p); err != nil {
		h.t.Errorf("%s of %s: %v\n%s", protocol, p.name, err, out)
	}
}

// arrives waits until all of somebody's mail is there, and holds it against the old server's.
func (h *house) arrives(old string, p person, sameUIDs bool) {
	h.t.Helper()
	var got, want map[string]int
	want = content(h.t, connect(h.t, old, p.address(), p.password, ""), sameUIDs)
	for range 200 {
		var shown struct {
			Messages int `json:"messages"`
		}
		json.Unmarshal([]byte(h.must("", "account", "show", p.address(), "--json")), &shown)
		if shown.Messages >= perBox*len(boxes) {
			if got = content(h.t, connect(h.t, h.at("imap"), p.address(), p.password, ""), sameUIDs); maps.Equal(got, want) {
				break
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !maps.Equal(got, want) || len(want) != perBox*len(boxes) {
		h.t.Errorf("%s has %d messages of %d that are as they were", p.name, len(got), len(want))
	}
}

// People log in at the new server, each by another protocol and with the password they have
// always had: with a hash that was brought, from the first login, and from nothing.
func TestFirstLogins(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 moves people from a real Dovecot")
	}
	old, users := former(t)
	h := newHouse(t)
	anna, bert, carl, dora, eva, fritz := people[0], people[1], people[2], people[3], people[4], people[5]
	lists := strings.SplitAfter(users, "\n")
	h.must(lists[0]+lists[5], "account", "import", "-")
	for _, p := range []person{bert, eva} {
		h.must("", "account", "add", p.address(), "--waiting")
	}
	h.must("", "domain", "set", "old.test", "migrate-from=imap://"+old.IMAP, "migrate-create=yes")

	wrong := bert
	wrong.password = "Nelke#9"
	if out, err := h.curl("imap", wrong); err == nil || !strings.Contains(out, "NO [AUTHENTICATIONFAILED]") {
		t.Errorf("a wrong password: %v\n%s", err, out)
	}
	h.logsIn("imap", anna)
	h.logsIn("pop3", bert)
	h.logsIn("smtp", carl)
	h.logsIn("imap", dora)
	h.logsIn("smtp", fritz)
	for _, p := range []person{anna, bert, carl, dora, fritz} {
		h.arrives(old.IMAP, p, false)
	}

	if log, err := os.ReadFile(h.Log); err != nil || len(log) == 0 {
		t.Error(err)
	} else {
		for _, p := range people {
			if bytes.Contains(log, []byte(p.password)) {
				t.Errorf("the log has the password of %s", p.name)
			}
		}
	}

	old.Stop()
	for protocol, want := range map[string]string{"imap": "NO [UNAVAILABLE]", "pop3": "-ERR [SYS/TEMP]", "smtp": "454 4.7.0"} {
		if out, err := h.curl(protocol, eva); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s, the former server being down: %v, want %q\n%s", protocol, err, want, out)
		}
	}
	for _, p := range []person{anna, bert, carl, dora, fritz} {
		h.logsIn("imap", p)
	}
	if err := old.Restart(); err != nil {
		t.Fatal(err)
	}
	for range 40 { // it is left alone for a while
		if _, err := h.curl("pop3", eva); err == nil {
			break
		}
		time.Sleep(250 * time.Millisecond)
	}
	h.logsIn("pop3", eva)
	h.Kill() // what was being fetched goes on at the next login
	if err := h.Restart(); err != nil {
		t.Fatal(err)
	}
	h.logsIn("imap", eva)
	h.arrives(old.IMAP, eva, false)
	if out := h.must("", "account", "list", "old.test", "--json"); strings.Contains(out, "waiting") || strings.Contains(out, "foreign") || strings.Count(out, "\n") != len(people) {
		t.Error(out)
	}
}

// A domain moves as a whole, by its master account: with hashes, made passwords and waiting
// accounts, in several goes, and with a proof for each mailbox.
func TestWholeDomain(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 moves people from a real Dovecot")
	}
	old, users := former(t)
	h := newHouse(t)
	var list strings.Builder
	list.WriteString("username,password,quota,active\n")
	for i, line := range strings.Split(strings.TrimSpace(users), "\n") {
		address, rest, _ := strings.Cut(line, ":")
		hash := strings.TrimRight(rest, ":")
		if i >= 3 {
			hash = "" // these get another password, or wait
		}
		quota := 0
		if i == 5 {
			quota = 20_000 // too little for him
		}
		fmt.Fprintf(&list, "%s,\"%s\",%d,1\n", address, hash, quota)
	}
	list.WriteString("ghost@old.test,{DES-CRYPT}8CRXWF0oaD2yc,,1\nsleeper@old.test,,,0\n")
	csv := filepath.Join(t.TempDir(), "people.csv")
	if err := os.WriteFile(csv, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	made, report := filepath.Join(t.TempDir(), "passwords"), filepath.Join(t.TempDir(), "proof")
	args := []string{"import", "domain", "old.test", "--from", "imap://" + old.IMAP, "--master-user", master, "--master-password-stdin", "--csv", csv, "--create", "--parallel", "3", "--json"}

	out, err := h.run(masterPassword, append(args, "--plan")...)
	if err != nil || strings.Count(out, `"messages":60`) != len(people) || !strings.Contains(out, "DES-CRYPT are not taken") {
		t.Errorf("the plan: %v\n%s", err, out)
	}
	if out, err = h.run("wrong", append(args, "--plan")...); !strings.Contains(out, "refuses the name or the password") {
		t.Errorf("a wrong master password: %v\n%s", err, out)
	}

	// The first go is cut short.
	cut := exec.Command(h.binary, append(args, "--config", h.Config, "--passwords", made)...)
	cut.Stdin = strings.NewReader(masterPassword)
	line, err := cut.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cut.Start(); err != nil {
		t.Fatal(err)
	}
	line.Read(make([]byte, 1))
	cut.Process.Kill()
	cut.Wait()

	args = append(args, "--passwords", made, "--report", report)
	out, err = h.run(masterPassword, args...)
	if err == nil || !strings.Contains(err.Error(), "2 accounts not whole") || !strings.Contains(out, `"whole":5,"failed":2,"skipped":1`) || !strings.Contains(out, "quota") {
		t.Errorf("with too little room: %v\n%s", err, out)
	}
	h.must("", "account", "quota", people[5].address(), "0")
	out, err = h.run(masterPassword, args...)
	if err == nil || !strings.Contains(err.Error(), "1 account not whole") || !strings.Contains(out, `"whole":6,"failed":1,"skipped":1`) {
		t.Errorf("%v\n%s", err, out)
	}
	for _, p := range people {
		proof, err := os.ReadFile(filepath.Join(report, p.address()+".jsonl"))
		if err != nil || !bytes.Contains(proof, []byte(`"whole":true,"messages":60,`)) {
			t.Errorf("%v: %s", err, proof)
		}
	}
	if all, err := os.ReadFile(filepath.Join(report, "all.txt")); err != nil || bytes.Count(all, []byte(" ok ")) != len(people) {
		t.Errorf("%v\n%s", err, all)
	}
	passwords := map[string]string{}
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	b, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(b), "\n") {
		address, password, _ := strings.Cut(l, ",")
		passwords[address] = password // the last one counts
	}
	for i, p := range people {
		if here := p; i >= 3 {
			here.password = passwords[p.address()]
			h.logsIn("imap", here)
			h.must(p.password, "account", "passwd", p.address(), "--password-stdin")
		}
		h.logsIn("imap", p)
		h.arrives(old.IMAP, p, true)
	}

	// Once more brings what is new, and nothing else.
	c := connect(t, old.IMAP, master, masterPassword, people[0].address())
	text := "Subject: late\r\n\r\nx\r\n"
	if _, err := c.Append(context.Background(), "INBOX", []imapc.Appending{{Size: int64(len(text)), Body: strings.NewReader(text)}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Stop(); err != nil { // it works beside a server and without one
		t.Fatal(err)
	}
	out, err = h.run(masterPassword, "import", "domain", "old.test", "--from", "imap://"+old.IMAP, "--master-user", master, "--master-password-stdin", "--master-form", "suffix", "--json", "--exclude", "Trash")
	if err != nil || !strings.Contains(out, `"new":1,`) || strings.Count(out, `"new":0,`) != len(people)-1 {
		t.Errorf("%v\n%s", err, out)
	}
	if err := h.Restart(); err != nil {
		t.Fatal(err)
	}
}

// From Cyrus: by a proxy user's PLAIN, and by a first login.
func TestFromCyrus(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 moves people from a real Cyrus")
	}
	unpacked := os.Getenv("MARTLET_PEERS_UNPACKED")
	if unpacked == "" {
		unpacked = "../../../bin/peers"
	}
	unpacked, err := filepath.Abs(filepath.Join(unpacked, "cyrus"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(unpacked, "usr/lib/cyrus/bin/imapd")); err != nil {
		t.Skipf("cyrus is not unpacked (test/deps.sh bench): %v", err)
	}
	old, err := cyrus.Start(cyrus.Options{Dir: t.TempDir(), Unpacked: unpacked, Domain: "old.test", Users: []string{"anna", "bert", master}, Proxy: master, Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { old.Stop() })
	anna, bert := person{"anna", cyrus.Password, ""}, person{"bert", cyrus.Password, ""}
	for _, p := range []person{anna, bert} {
		c := connect(t, old.IMAP, p.address(), p.password, "")
		if err := c.Create(context.Background(), "Sent", ""); err != nil {
			t.Fatal(err)
		}
		fill(t, c, p)
	}
	h := newHouse(t)
	csv := filepath.Join(t.TempDir(), "people.csv")
	if err := os.WriteFile(csv, []byte("anna@old.test,anna@old.test,{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"), 0o600); err != nil { // "secret"
		t.Fatal(err)
	}
	out, err := h.run(cyrus.Password, "import", "domain", "old.test", "--from", "imap://"+old.IMAP, "--master-user", master+"@old.test", "--master-password-stdin", "--csv", csv, "--create", "--json")
	if err != nil || !strings.Contains(out, `"accounts":1,"whole":1,"failed":0`) {
		t.Fatalf("%v\n%s", err, out)
	}
	h.must("", "account", "add", bert.address(), "--waiting")
	h.must("", "domain", "set", "old.test", "migrate-from=imap://"+old.IMAP)
	h.logsIn("pop3", bert)
	for _, p := range []person{anna, bert} {
		h.logsIn("imap", p)
		h.arrives(old.IMAP, p, false)
	}
}
