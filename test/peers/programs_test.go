package peers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// TestPrograms lets each program work on one server, each with an account of its own.
func TestPrograms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		run  func(*testing.T, *subject)
	}{
		{"curl", curl}, {"swaks", swaks}, {"python", python}, {"mbsync", mbsync}, {"offlineimap", offlineimap},
		{"neomutt", neomutt}, {"muttcache", neomuttCached}, {"fetchmail", fetchmail}, {"getmail", getmail}, {"msmtp", msmtp}, {"goimap", goIMAP},
		{"aerc", aerc}, {"alpine", alpine}, {"perl", perl}, {"roundcube", roundcube}, {"goall", goIMAPAll},
		{"goutf8", goIMAPUTF8}, {"gosmtp", goSMTP},
	}
	var opt martlet.Options
	for _, c := range tests {
		opt.Accounts = append(opt.Accounts, c.name)
	}
	s := start(t, opt)
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
}

// note is a short message that nothing should change.
func note(id, text string) []byte {
	return fmt.Appendf(nil, "From: Sender <sender@example.org>\r\nTo: you@martlet.test\r\nSubject: note %s\r\n"+
		"Date: Mon, 4 Mar 2024 10:11:12 +0100\r\nMessage-ID: <%s@peers.example>\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n", id, id, text)
}

// arrive delivers notes over LMTP and returns them.
func arrive(t *testing.T, s *subject, name string, n int) [][]byte {
	t.Helper()
	w := dialSMTP(t, s.addr("lmtp"), true)
	var sent [][]byte
	for i := range n {
		m := note(fmt.Sprintf("%s-%d", name, i), fmt.Sprintf("Text %d\r\n.\r\n..dots\r\nGr\u00fc\u00dfe", i))
		if code, text := w.deliver("sender@example.org", s.account(t, name).Address, m); code != 250 {
			t.Fatalf("delivery: %s", text)
		}
		sent = append(sent, m)
	}
	return sent
}

// holds tells whether a mailbox has a message that ends in the bytes.
func holds(t *testing.T, s *subject, name, box string, end []byte) bool {
	t.Helper()
	w := dialIMAP(t, s, name)
	defer w.ok("LOGOUT")
	w.ok("EXAMINE %s", box)
	_, all := w.bodies("BODY.PEEK[]")
	for _, b := range all {
		if bytes.HasSuffix(b, end) {
			return true
		}
	}
	return false
}

func curl(t *testing.T, s *subject) {
	a := s.account(t, "curl")
	home := t.TempDir()
	m := note("curl", "by curl\r\n.\r\n\r\nend")
	write(t, home, "m.eml", string(m))
	c := func(args ...string) program {
		args = append([]string{"--silent", "--show-error", "--max-time", "30", "--user", a.Address + ":" + a.Password}, args...)
		if s.Server != nil {
			args = append(args, "--cacert", s.CA)
		}
		return program{name: "curl", args: args, home: home}
	}
	imap, pop3 := "imap://"+s.addr("imap"), "pop3://"+s.addr("pop3")
	if out := c(imap, "--request", `LIST "" "*"`).succeed(t).out; !strings.Contains(out, "INBOX") {
		t.Errorf("curl lists %q", out)
	}
	c(imap+"/INBOX", "--upload-file", "m.eml").succeed(t)
	n := dialIMAP(t, s, "curl").exists("INBOX")
	index := fmt.Sprintf("%s/INBOX;MAILINDEX=%d", imap, n)
	if out := c(index).succeed(t).out; out != string(m) {
		t.Errorf("curl reads over IMAP %q", out)
	}
	if out := c(imap + "/INBOX?SUBJECT%20curl").succeed(t).out; !strings.Contains(out, fmt.Sprintf("SEARCH %d", n)) {
		t.Errorf("curl finds %q", out)
	}
	if out := c(fmt.Sprintf("%s/%d", pop3, n)).succeed(t).out; out != string(m) {
		t.Errorf("curl reads over POP3 %q", out)
	}
	if r := c("--user", a.Address+":wrong", imap).run(t); r.code != 67 {
		t.Errorf("curl with a wrong password ends with code %d, not 67: %s", r.code, r.err)
	}
	if s.Server == nil {
		return
	}
	for _, args := range [][]string{{"--ssl-reqd", index}, {strings.Replace(index, imap, "imaps://"+s.addr("imaps"), 1)},
		{"--ssl-reqd", fmt.Sprintf("%s/%d", pop3, n)}, {fmt.Sprintf("pop3s://%s/%d", s.addr("pop3s"), n)}} {
		if out := c(args...).succeed(t).out; out != string(m) {
			t.Errorf("curl %v reads %q", args, out)
		}
	}
	curlSends(t, s, c)
}

func curlSends(t *testing.T, s *subject, c func(...string) program) {
	a := s.account(t, "curl")
	for i, args := range [][]string{{"--ssl-reqd", "smtp://" + s.addr("submission")}, {"smtps://" + s.addr("submissions")},
		{"smtp://" + s.addr("smtp")}} {
		m := note(fmt.Sprintf("curl-sent-%d", i), "sent by curl\r\n..\r\n.x")
		p := c(append(args, "--mail-from", a.Address, "--mail-rcpt", a.Address, "--upload-file", "-")...)
		p.in = string(m)
		if i == 2 { // port 25 has no login
			p.args = append([]string{}, p.args[:4]...)
			p.args = append(p.args, "smtp://"+s.addr("smtp"), "--mail-from", "x@example.org", "--mail-rcpt", a.Address, "--upload-file", "-")
		}
		p.succeed(t)
		if !holds(t, s, "curl", "INBOX", m) {
			t.Errorf("what curl %v sent is not there", args)
		}
	}
}

func swaks(t *testing.T, s *subject) {
	s.need(t, "smtp", "submission", "submissions")
	a := s.account(t, "swaks")
	sub, tls, mx := s.addr("submission"), s.addr("submissions"), s.addr("smtp")
	login := []string{"--auth-user", a.Address, "--auth-password", a.Password}
	for i, c := range []struct {
		name string
		code int
		said string
		args []string
	}{
		{"STARTTLS and PLAIN", 0, "~>", append([]string{"-s", sub, "-tls", "--auth", "PLAIN"}, login...)},
		{"STARTTLS and LOGIN", 0, "~>", append([]string{"-s", sub, "-tls", "--auth", "LOGIN"}, login...)},
		{"TLS at once", 0, "~>", append([]string{"-s", tls, "-tlsc", "--auth", "PLAIN"}, login...)},
		{"certificate checked", 0, "~>", append([]string{"-s", tls, "-tlsc", "--tls-verify", "--tls-ca-path", s.caPath(), "--auth", "PLAIN"}, login...)},
		{"port 25", 0, "250", []string{"-s", mx}},
		{"port 25 with STARTTLS", 0, "~>", []string{"-s", mx, "-tls"}},
		{"port 25, pipelined", 0, "250", []string{"-s", mx, "--pipeline"}},
		{"null sender", 0, "250", []string{"-s", mx, "-f", "<>"}},
		{"HELO only", 0, "250", []string{"-s", mx, "--protocol", "SMTP"}},
		{"LMTP", 0, "250", []string{"-s", s.addr("lmtp"), "--protocol", "LMTP"}},
		{"wrong password", 28, "535", []string{"-s", sub, "-tls", "--auth", "PLAIN", "--auth-user", a.Address, "--auth-password", "no"}},
		{"unknown user", 28, "535", []string{"-s", sub, "-tls", "--auth", "PLAIN", "--auth-user", "x@martlet.test", "--auth-password", "no"}},
		{"submission without login", 0xff, "530", []string{"-s", sub, "-tls"}},
		{"relaying", 24, "550", []string{"-s", mx, "-t", "x@elsewhere.example"}},
		{"relaying with % in the address", 24, "55", []string{"-s", mx, "-t", "x%elsewhere.example@martlet.test"}},
		{"nobody", 24, "550", []string{"-s", mx, "-t", "nobody@martlet.test"}},
		{"sender without a domain", 0xff, "5", []string{"-s", mx, "-f", "nodomain@"}},
	} {
		id := fmt.Sprintf("swaks-%d@peers.example", i)
		args := append([]string{"-f", a.Address, "-t", a.Address, "--header", "Message-Id: <" + id + ">", "--timeout", "20"}, c.args...)
		r := program{name: "swaks", args: args}.run(t)
		if r.code != c.code && !(c.code == 0xff && r.code != 0) {
			t.Errorf("%s: swaks ends with code %d, not %d\n%s%s", c.name, r.code, c.code, tail(r.out), tail(r.err))
		}
		if !strings.Contains(r.out, c.said) {
			t.Errorf("%s: the dialogue lacks %q\n%s", c.name, c.said, tail(r.out))
		}
		if there := s.find(t, "swaks", id); there != (c.code == 0) {
			t.Errorf("%s: the message is there: %v", c.name, there)
		}
	}
}

func (s *subject) caPath() string {
	if s.Server == nil {
		return ""
	}
	return s.CA
}

// find tells whether INBOX has a message with the Message-ID.
func (s *subject) find(t *testing.T, name, id string) bool {
	t.Helper()
	w := dialIMAP(t, s, name)
	defer w.ok("LOGOUT")
	w.ok("EXAMINE INBOX")
	for _, r := range w.ok("SEARCH HEADER Message-ID %q", id) {
		if len(strings.Fields(r.text)) > 2 && strings.HasPrefix(r.text, "* SEARCH") {
			return true
		}
	}
	return false
}

func python(t *testing.T, s *subject) {
	a := s.account(t, "python")
	script, err := filepath.Abs("testdata/client.py")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{script, a.Address, a.Password, s.addr("imap"), s.addr("pop3"), s.addr("lmtp"), s.addr("imaps"),
		s.addr("pop3s"), s.addr("submission"), s.addr("submissions"), s.caPath()}
	r := program{name: "/usr/bin/python3", args: args}.succeed(t)
	if !strings.HasSuffix(r.out, "all done\n") {
		t.Errorf("the script ended early\n%s%s", r.out, r.err)
	}
}

func msmtp(t *testing.T, s *subject) {
	s.need(t, "submission", "submissions")
	a := s.account(t, "msmtp")
	home := t.TempDir()
	conf := func(addr, starttls, password string) string {
		host, port := s.host(addr)
		return write(t, home, addr+password, fmt.Sprintf("account default\nhost %s\nport %s\nauth on\nuser %s\npassword %s\nfrom %s\n"+
			"tls on\ntls_starttls %s\ntls_trust_file %s\n", host, port, a.Address, password, a.Address, starttls, s.CA))
	}
	for addr, starttls := range map[string]string{"submission": "on", "submissions": "off"} {
		m := note("msmtp-"+addr, ".\r\nby msmtp\r\n..\r\nGr\u00fc\u00dfe")
		p := program{name: "msmtp", args: []string{"-C", conf(addr, starttls, a.Password), a.Address}, home: home,
			in: strings.ReplaceAll(string(m), "\r\n", "\n")}
		p.succeed(t)
		if !holds(t, s, "msmtp", "INBOX", m) {
			t.Errorf("what msmtp sent to %s is not there", addr)
		}
	}
	p := program{name: "msmtp", args: []string{"-C", conf("submission", "on", "wrong"), a.Address}, home: home, in: "Subject: x\n\nx\n"}
	if r := p.run(t); r.code != 77 { // EX_NOPERM
		t.Errorf("msmtp with a wrong password ends with code %d, not 77: %s", r.code, r.err)
	}
}

func fetchmail(t *testing.T, s *subject) {
	fetchers(t, s, "fetchmail", func(home, proto, out string) program {
		host, port := s.host(proto)
		a := s.account(t, "fetchmail")
		rc := write(t, home, proto+".rc", fmt.Sprintf("set no bouncemail\npoll %s service %s protocol %s auth password\n"+
			"  username %q password %q is root here fetchall no keep no rewrite sslproto ''\n  mda \"cat >> %s\"\n",
			host, port, strings.ToUpper(proto), a.Address, a.Password, out))
		os.Chmod(rc, 0o600)
		return program{name: "fetchmail", args: []string{"-f", rc, "--invisible", "--pidfile", filepath.Join(home, "pid"), "--idfile",
			filepath.Join(home, "ids"), "-v"}, home: home}
	})
}

func getmail(t *testing.T, s *subject) {
	fetchers(t, s, "getmail", func(home, proto, out string) program {
		host, port := s.host(proto)
		a := s.account(t, "getmail")
		rc := write(t, home, proto+".rc", fmt.Sprintf("[retriever]\ntype = Simple%sRetriever\nserver = %s\nport = %s\nusername = %s\npassword = %s\ntimeout = 10\n"+
			"[destination]\ntype = Mboxrd\npath = %s\n[options]\ndelete = true\nread_all = true\ndelivered_to = false\nreceived = false\n",
			strings.ToUpper(proto), host, port, a.Address, a.Password, filepath.Join(home, out)))
		write(t, home, out, "")
		return program{name: "getmail", as: "mail", args: []string{"--getmaildir", home, "--rcfile", rc}, home: home}
	})
}

// fetchers lets a program collect mail over POP3 and over IMAP, which then must be
// gone from the server and there at the other end.
func fetchers(t *testing.T, s *subject, name string, make func(home, proto, out string) program) {
	for _, proto := range []string{"pop3", "imap"} {
		home := t.TempDir()
		sent := arrive(t, s, name, 30)
		p := make(home, proto, proto+".mbox")
		r := p.run(t)
		for try := 1; try < 5 && strings.Contains(r.out+r.err, "timed out"); try++ {
			r = p.run(t) // getmail misses the end of a child of its own, if that is too fast
		}
		if r.code != 0 {
			t.Fatalf("%s over %s ends with code %d\n%s%s", name, proto, r.code, tail(r.out), tail(r.err))
		}
		got, err := os.ReadFile(filepath.Join(home, proto+".mbox"))
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range sent {
			_, body, _ := bytes.Cut(bytes.ReplaceAll(m, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
			id := fmt.Sprintf("<%s-%d@peers.example>", name, i)
			if !bytes.Contains(got, []byte(id)) || !bytes.Contains(got, body) {
				t.Errorf("%s over %s did not bring message %d", name, proto, i)
			}
		}
		if n := dialIMAP(t, s, name).exists("INBOX"); n != 0 {
			t.Errorf("after %s over %s %d messages are left", name, proto, n)
		}
		if r := p.run(t); r.code != 0 && !(name == "fetchmail" && r.code == 1) { // 1: there was no mail
			t.Errorf("%s over %s on an empty mailbox ends with code %d\n%s%s", name, proto, r.code, tail(r.out), tail(r.err))
		}
	}
}
