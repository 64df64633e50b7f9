package peers

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/discover/format"
	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// An account whose name has what files of settings have characters for: quotes, escapes,
// variables, references, commands, comments.
const (
	nastyName    = `o'n$HOME{}~%41&!#x`
	backtickName = "b`id`t|?=^*/"
	atomName     = "o'n$HOME~&!#x" // without what IMAP has for its own
)

// TestFormats lets the real programs fetch or send one message each with the files that
// package format writes, with TLS from the first byte and by STARTTLS.
func TestFormats(t *testing.T) {
	if against() != "" {
		t.Skip("the files are of our own server")
	}
	tests := []struct {
		form, name string
		starttls   bool
		run        func(t *testing.T, s *subject, f formatted)
	}{
		{"msmtp", "plain", false, f.msmtp}, {"msmtp", strings.ReplaceAll(nastyName, "%", ""), true, f.msmtp},
		{"mbsync", nastyName, false, f.mbsync}, {"mbsync", backtickName, true, f.mbsync},
		{"muttrc", nastyName, false, f.neomutt}, {"muttrc", backtickName, true, f.neomutt},
		{"fetchmail", "plain", false, f.fetchmail}, {"fetchmail", nastyName, true, f.fetchmail},
		{"getmail", atomName, false, f.getmail},
		{"offlineimap", nastyName, false, f.offlineimap}, {"offlineimap", backtickName, true, f.offlineimap},
		{"aerc", "o'n$HOME{}~%41&!x", false, f.aerc}, {"aerc", "plain", true, f.aerc},
	}
	s := start(t, martlet.Options{Accounts: []string{"plain", nastyName, backtickName, strings.ReplaceAll(nastyName, "%", ""), "o'n$HOME{}~%41&!x", atomName}})
	for _, c := range tests {
		t.Run(fmt.Sprintf("%s starttls=%v", c.form, c.starttls), func(t *testing.T) {
			f := newFormatted(t, s, c.form, c.name, c.starttls)
			defer func() {
				if text, _ := os.ReadFile(f.file); t.Failed() {
					t.Logf("the file:\n%s", text)
				}
			}()
			c.run(t, s, f)
		})
	}
}

// f names the methods of the table.
var f formatted

// formatted is a file in a home of its own.
type formatted struct {
	martlet.Account
	name, home, file string
}

func newFormatted(t *testing.T, s *subject, form, name string, starttls bool) formatted {
	t.Helper()
	a := s.account(t, name)
	home := t.TempDir()
	answer := discover.Answer{Address: a.Address, Domain: "martlet.test"}
	for _, p := range [][3]string{{"imap", "imaps", "imap"}, {"pop3", "pop3s", "pop3"}, {"smtp", "submissions", "submission"}} {
		listener, security := p[1], discover.TLS
		if starttls {
			listener, security = p[2], discover.StartTLS
		}
		_, port, _ := strings.Cut(s.addr(listener), ":")
		n, _ := strconv.Atoi(port)
		answer.Services = append(answer.Services, discover.Service{Protocol: p[0], Host: "localhost", Port: n, Security: security, Username: a.Address, Auth: []string{"password"}})
	}
	ca, err := os.ReadFile(s.caPath())
	if err != nil {
		t.Fatal(err)
	}
	secret, authority := write(t, home, "secret", a.Password+"\n"), write(t, home, "ca.pem", string(ca))
	text, err := format.Write(form, answer, format.Options{Name: `O'Neil "the" Ünique`, Command: "cat " + secret, CA: authority})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(a.Password)) {
		t.Errorf("the file holds the password:\n%s", text)
	}
	return formatted{a, name, home, write(t, home, form+".conf", string(text))}
}

// arrives delivers a note to the account, and returns its id.
func (f formatted) arrives(t *testing.T, s *subject) string {
	t.Helper()
	id := strings.ReplaceAll(filepath.Base(f.home)+filepath.Base(filepath.Dir(f.home)), "_", "")
	deliverTo(t, s, f.name, note(id, "for a file of settings"))
	return id
}

// came looks for a note in the files of a home.
func (f formatted) came(t *testing.T, id string) {
	t.Helper()
	found := false
	err := filepath.WalkDir(f.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		found = found || bytes.Contains(text, []byte("<"+id+"@peers.example>"))
		return err
	})
	if err != nil || !found {
		t.Errorf("the message was not brought; %v", err)
	}
}

func (formatted) msmtp(t *testing.T, s *subject, f formatted) {
	m := note("format-"+filepath.Base(f.home), "sent by msmtp")
	program{name: "msmtp", args: []string{"-C", f.file, f.Address}, home: f.home, in: strings.ReplaceAll(string(m), "\r\n", "\n")}.succeed(t)
	if !holds(t, s, f.name, "INBOX", []byte("sent by msmtp\r\n")) {
		t.Error("what msmtp sent is not there")
	}
}

func (formatted) mbsync(t *testing.T, s *subject, f formatted) {
	id := f.arrives(t, s)
	os.MkdirAll(filepath.Join(f.home, "Mail", f.label()), 0o700)
	program{name: "mbsync", args: []string{"-c", f.file, "-a"}, home: f.home}.succeed(t)
	f.came(t, id)
}

// label is the name of the account's folder, as the files have it.
func (f formatted) label() string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@.-_", r) {
			return r
		}
		return '_'
	}, f.Address)
}

func (formatted) neomutt(t *testing.T, s *subject, f formatted) {
	program{name: "neomutt", args: []string{"-n", "-F", f.file, "-e", "set copy=no", "-s", "by neomutt", "--", f.Address}, home: f.home, in: "sent by neomutt\n"}.succeed(t)
	if !holds(t, s, f.name, "INBOX", []byte("sent by neomutt\r\n")) {
		t.Error("what neomutt sent is not there")
	}
	id := f.arrives(t, s)
	x := program{name: "neomutt", args: []string{"-n", "-F", f.file, "-e", `set index_format="%Z <%s>"`}, home: f.home}.onTerminal(t)
	x.sees("<note " + id)
	x.press("x")
	x.ends()
}

func (formatted) fetchmail(t *testing.T, s *subject, f formatted) {
	id := f.arrives(t, s)
	write(t, f.home, ".netrc", fmt.Sprintf("machine localhost login %q password %q\n", f.Address, f.Password))
	program{name: "fetchmail", args: []string{"-f", f.file, "--invisible", "--pidfile", filepath.Join(f.home, "pid"), "--idfile", filepath.Join(f.home, "ids"),
		"--mda", "cat >> " + filepath.Join(f.home, "mbox")}, home: f.home}.succeed(t)
	f.came(t, id)
}

func (formatted) getmail(t *testing.T, s *subject, f formatted) {
	id := f.arrives(t, s)
	for _, d := range []string{"new", "cur", "tmp"} {
		os.MkdirAll(filepath.Join(f.home, "Mail", f.label(), d), 0o700)
	}
	program{name: "getmail", as: "mail", args: []string{"--getmaildir", f.home, "--rcfile", f.file}, home: f.home}.succeed(t)
	f.came(t, id)
}

func (formatted) offlineimap(t *testing.T, s *subject, f formatted) {
	id := f.arrives(t, s)
	os.MkdirAll(filepath.Join(f.home, "Mail"), 0o700)
	p := program{name: "offlineimap", args: []string{"-c", f.file, "-o", "-1", "-u", "basic"}, home: f.home}
	for try := 0; ; try++ {
		r := p.run(t)
		if r.code == 0 {
			break
		}
		// Its thread that reads may look at the connection while the other begins TLS on it; on a
		// busy machine it then ends by itself.
		if try == 2 || !strings.Contains(r.out+r.err, "[SSL] internal error") {
			t.Fatalf("%s ended with code %d\n%s\n%s", p, r.code, tail(r.out), tail(r.err))
		}
	}
	f.came(t, id)
}

func (formatted) aerc(t *testing.T, s *subject, f formatted) {
	id := f.arrives(t, s)
	text, _ := os.ReadFile(f.file)
	write(t, f.home, "aerc/accounts.conf", string(text))
	write(t, f.home, "aerc/aerc.conf", aercConf)
	x := program{name: "aerc", home: f.home, env: []string{"SSL_CERT_FILE=" + s.caPath(), "EDITOR=true"}}.onTerminal(t)
	x.sees("note " + id)
	x.press(":quit\r")
	x.ends()
}

// The control: with the authorities of the system in place of the server's own, none of the
// programs takes its certificate, and nothing is sent or brought.
func TestFormatsDistrust(t *testing.T) {
	t.Parallel()
	if against() != "" {
		t.Skip("the files are of our own server")
	}
	s := start(t, martlet.Options{Accounts: []string{"plain"}})
	deliverTo(t, s, "plain", note("distrust", "not to be brought"))
	ran := 0
	for form, run := range map[string]func(f formatted) program{
		"msmtp": func(f formatted) program {
			return program{name: "msmtp", args: []string{"-C", f.file, f.Address}, in: "Subject: x\n\nx\n"}
		},
		"mbsync": func(f formatted) program {
			os.MkdirAll(filepath.Join(f.home, "Mail", f.label()), 0o700)
			return program{name: "mbsync", args: []string{"-c", f.file, "-a"}}
		},
		"fetchmail": func(f formatted) program {
			write(t, f.home, ".netrc", fmt.Sprintf("machine localhost login %q password %q\n", f.Address, f.Password))
			return program{name: "fetchmail", args: []string{"-f", f.file, "--pidfile", filepath.Join(f.home, "pid"), "--idfile", filepath.Join(f.home, "ids"), "--mda", "cat >> " + filepath.Join(f.home, "mbox")}}
		},
		"getmail": func(f formatted) program {
			for _, d := range []string{"new", "cur", "tmp"} {
				os.MkdirAll(filepath.Join(f.home, "Mail", f.label(), d), 0o700)
			}
			return program{name: "getmail", as: "mail", args: []string{"--getmaildir", f.home, "--rcfile", f.file}}
		},
		"offlineimap": func(f formatted) program {
			return program{name: "offlineimap", args: []string{"-c", f.file, "-o", "-1", "-u", "basic"}}
		},
	} {
		for _, starttls := range []bool{false, true} {
			if starttls && (form == "getmail" || form == "offlineimap") {
				continue // the one knows none, the other waits for ever after a bad certificate
			}
			f := newFormatted(t, s, form, "plain", starttls)
			text, _ := os.ReadFile(f.file)
			ca := filepath.Join(f.home, "ca.pem")
			if !bytes.Contains(text, []byte(ca)) {
				t.Fatalf("%s does not name the authority:\n%s", form, text)
			}
			os.WriteFile(f.file, bytes.ReplaceAll(text, []byte(ca), []byte("/etc/ssl/certs/ca-certificates.crt")), 0o600)
			p := run(f)
			p.home = f.home
			r := p.run(t)
			if !strings.Contains(strings.ToLower(r.out+r.err), "certificate") {
				t.Errorf("%s starttls=%v ends with code %d and says nothing of a certificate\n%s%s", form, starttls, r.code, r.out, r.err)
			}
			ran++
			f.gone(t, "distrust")
		}
	}
	if ran != 8 || holds(t, s, "plain", "INBOX", []byte("\r\nx\r\n")) {
		t.Errorf("%d ran, or something was sent", ran)
	}
}

// gone fails if a note is in the files of a home.
func (f formatted) gone(t *testing.T, id string) {
	t.Helper()
	_ = filepath.WalkDir(f.home, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if text, _ := os.ReadFile(path); bytes.Contains(text, []byte("<"+id+"@peers.example>")) {
				t.Errorf("the message was brought into %s", path)
			}
		}
		return nil
	})
}
