package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
)

// nobodyKnows is a name server that denies everything.
func nobodyKnows(t *testing.T) string {
	t.Helper()
	s, err := dnstest.Start("other.example. A 203.0.113.1\n_caldavs._tcp.calendar.example. SRV 0 1 443 cal.calendar.example.\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s.Addr()
}

func TestDiscoverNeedsNoConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	dns := nobodyKnows(t)
	got := command(t, "", "discover", "me@gmail.com", "--resolver", dns)
	want := `gmail.com  Gmail  [the built-in table: database]
  read      IMAP    imap.gmail.com   993  TLS       me@gmail.com  oauth2 | app-password
            POP3    pop.gmail.com    995  TLS       me@gmail.com  oauth2 | app-password
  send      SMTP    smtp.gmail.com   465  TLS       me@gmail.com  oauth2 | app-password
            SMTP    smtp.gmail.com   587  STARTTLS  me@gmail.com  oauth2 | app-password
`
	if got.code != 0 || !strings.HasPrefix(got.out, want) || got.err != "" {
		t.Errorf("code %d\n%s%s", got.code, got.out, got.err)
	}
	if lines := strings.Split(strings.TrimSpace(got.out), "\n"); !strings.Contains(lines[len(lines)-1], "martlet import imap --from imaps://imap.gmail.com:993 --user 'me@gmail.com' --password-stdin --to ") {
		t.Errorf("the last line is %q", lines[len(lines)-1])
	}
	if got = command(t, "", "discover", "me@outlook.com", "--resolver", dns); !strings.Contains(got.out, "OAuth2 only") || !strings.Contains(got.out, " --token-stdin ") {
		t.Errorf("%s", got.out)
	}
	got = command(t, "", "discover", "me@icloud.com", "--json", "--resolver", dns)
	var a discover.Answer
	if err := json.Unmarshal([]byte(got.out), &a); err != nil || got.code != 0 || a.Domain != "icloud.com" || a.Address != "me@icloud.com" {
		t.Fatal(err, got)
	}
	if !strings.Contains(strings.Join(a.Notes, " "), "iCloud has no POP3") || a.Services[0].Username != "me" || a.Services[1].Username != "me@icloud.com" {
		t.Errorf("%+v", a)
	}
}

func TestDiscoverExitCodes(t *testing.T) {
	t.Chdir(t.TempDir())
	dns := nobodyKnows(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"me@nobody.example", exitNothing, ""},
		{"me@tuta.com", exitNothing, ""},
		{"me@gmail.com --explain", 0, ""},
		{"me@calendar.example", exitNothing, ""},
		{"me@co.uk", exitUsage, "others register"},
		{"com", exitUsage, "no domain of a provider"},
		{"me@[192.0.2.1]", exitUsage, "an IP address has no settings"},
		{"", exitUsage, "missing argument"},
		{"a@b.example --timeout -1s", exitUsage, "--timeout"},
		{"a@b.example --ca /nonexistent", exitUsage, "cannot read the authorities"},
		{"a@b.example --config /nonexistent", exitUsage, "no configuration file"},
	} {
		got := command(t, "", append(strings.Fields("discover "+c.args), "--resolver", dns)...)
		if got.code != c.code || !strings.Contains(got.err, c.says) || c.says == "" && got.err != "" {
			t.Errorf("%s: code %d, %s%s", c.args, got.code, got.out, got.err)
		}
	}
}

// Without a network nothing is known, which is not that there is nothing.
func TestDiscoverWithoutNameServers(t *testing.T) {
	t.Chdir(t.TempDir())
	s, err := dnstest.Start("")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	got := command(t, "", "discover", "me@nobody.example", "--resolver", s.Addr())
	if got.code != 1 || !strings.Contains(got.err, "no name server answered") || got.out != "" {
		t.Errorf("code %d\n%s%s", got.code, got.out, got.err)
	}
	if got = command(t, "", "discover", "me@gmail.com", "--resolver", s.Addr()); got.code != 0 {
		t.Errorf("code %d\n%s%s", got.code, got.out, got.err)
	}
}

func TestDiscoverTakesTheConfiguration(t *testing.T) {
	dns := nobodyKnows(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ours.txt"), []byte("[Ours]\nfrom us 2026-11\nat corp.example\nimap mail.corp.example 143\nsmtp mail.corp.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "martlet.toml")
	text := "hostname = \"mail.example.org\"\ndata = \"data\"\n[discover]\noverrides = \"ours.txt\"\nresolver = \"" + dns + "\"\ndatabase = \"\"\n" +
		"[[listen]]\nprotocol = \"imaps\"\naddress = \":993\"\n[[listen]]\nprotocol = \"submissions\"\naddress = \":465\"\n[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, "", "discover", "me@corp.example", "--config", path)
	if got.code != 0 || !strings.Contains(got.out, "mail.corp.example   143  STARTTLS") || !strings.Contains(got.out, "the local file of overrides") {
		t.Errorf("code %d\n%s%s", got.code, got.out, got.err)
	}
	if got := command(t, "", "domain", "add", "example.org", "--config", path); got.code != 0 {
		t.Fatal(got)
	}
	got = command(t, "", "discover", "me@example.org", "--config", path, "--json")
	if got.code != 0 || !strings.Contains(got.out, `"host":"mail.example.org","port":993,"security":"tls","username":"me@example.org"`) || !strings.Contains(got.out, `"source":"own","confidence":"verified"`) {
		t.Errorf("code %d\n%s%s", got.code, got.out, got.err)
	}
	// A fault in the overrides is named, with its line.
	if err := os.WriteFile(filepath.Join(dir, "ours.txt"), []byte("[Ours]\nimpa x.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got = command(t, "", "discover", "me@corp.example", "--config", path); got.code != exitUsage || !strings.Contains(got.err, "overrides:2") {
		t.Errorf("code %d\n%s", got.code, got.err)
	}
}

// Files tell what the answer does: its notes, on standard error and in the file, and its exit
// code. One that would lose a password is written only if the person accepts that.
func TestDiscoverFormat(t *testing.T) {
	t.Chdir(t.TempDir())
	dns := nobodyKnows(t)
	text := "[Plain]\nfrom us 2026-11\nat plain.example\nimap imap.plain.example 143 none\nsmtp imap.plain.example 465\nnote read this first\n" +
		"[Letters]\nfrom us 2026-11\nat xn--bcher-kva.example\nimap imap.plain.example\nsmtp imap.plain.example\n" +
		"[Sending]\nfrom us 2026-11\nat sending.example\nsmtp smtp.sending.example\n"
	if err := os.WriteFile("ours.txt", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("martlet.toml", []byte("[discover]\noverrides = \"ours.txt\"\ndatabase = \"\"\ndeadline = \"1s\"\nresolver = \""+dns+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, out, err string
		code           int
	}{
		{"me@GMAIL.com. muttrc", "# Note: ", "note: ", 0},
		{"me@GMAIL.com. muttrc", `set imap_user = "me@gmail.com"`, "", 0},
		{"Me@b\u00fccher.example mbsync", `IMAPAccount Me@xn--bcher-kva.example`, "", 0},
		{"me@gmail.com pacc", `"submit"`, "note: ", 0},
		{"me@nobody.example muttrc", "", "no such server was found", exitNothing},
		{"me@tuta.com muttrc", "", "note: Tuta has neither", exitNothing},
		{"me@sending.example mbsync", "", "speaks IMAP", exitNothing},
		{"me@sending.example msmtp", "host smtp.sending.example", "", 0},
		{"me@plain.example mbsync", "", "belongs to plain.example, has no encryption", exitFailed},
		{"me@plain.example mbsync", "", "note: read this first", exitFailed},
		{"me@plain.example mbsync --accept-insecure", "# Note: read this first\n", "note: read this first", 0},
		{"me@gmail.com none", "", "there is no form", exitUsage},
		{"gmail.com muttrc", "", "whole address", exitUsage},
	} {
		args := strings.Fields(c.args)
		got := command(t, "", append([]string{"discover", args[0], "--config", "martlet.toml", "--format"}, args[1:]...)...)
		if got.code != c.code || !strings.Contains(got.out, c.out) || c.out == "" && got.out != "" || !strings.Contains(got.err, c.err) {
			t.Errorf("%s: code %d\n%s%s", c.args, got.code, got.out, got.err)
		}
	}
}

// What was only guessed, or could have been forged, is told from the rest.
func TestFormatOfAnswers(t *testing.T) {
	services := func(change func(*discover.Service)) (all []discover.Service) {
		for _, p := range []string{"imap", "smtp"} {
			s := discover.Service{Protocol: p, Host: p + ".a.example", Port: 993, Security: discover.TLS, Username: "me@a.example", Auth: []string{"password"}, Confidence: discover.Published}
			change(&s)
			all = append(all, s)
		}
		return all
	}
	for _, c := range []struct {
		change func(*discover.Service)
		accept string
		code   int
	}{
		{func(*discover.Service) {}, "false", 0},
		{func(s *discover.Service) { s.Confidence = discover.Guessed }, "false", exitGuessed},
		{func(s *discover.Service) { s.Insecure = true }, "false", exitFailed},
		{func(s *discover.Service) { s.Insecure = true }, "true", 0},
		{func(s *discover.Service) { s.Security = "none" }, "false", exitFailed},
		{func(s *discover.Service) { s.Security, s.Confidence = "none", discover.Guessed }, "true", exitGuessed},
	} {
		cmd := newDiscoverCommand()
		var out, errOut strings.Builder
		cmd.SetOut(&out)
		cmd.SetErr(&errOut)
		for flag, value := range map[string]string{"format": "muttrc", "accept-insecure": c.accept} {
			if err := cmd.Flags().Set(flag, value); err != nil {
				t.Fatal(err)
			}
		}
		done, err := writesFormat(cmd, &discover.Answer{Address: "me@a.example", Domain: "a.example", Services: services(c.change), Notes: []string{"beware"}})
		code := 0
		var f *failure
		if errors.As(err, &f) {
			code = f.code
		}
		if !done || code != c.code || (out.Len() == 0) != (code == exitFailed) || errOut.String() != "note: beware\n" || out.Len() > 0 && !strings.HasPrefix(out.String(), "# Note: beware\n") {
			t.Errorf("code %d, %v\n%s%s", code, err, &out, &errOut)
		}
	}
}

// What a domain says of itself leads --serve-check into no network of ours, unless it is ours, or
// the person has said so.
func TestServeCheckStaysOutside(t *testing.T) {
	s, err := dnstest.Start("autoconfig.strange.example. A 127.0.0.1\nautoconfig.hosted.test. A 127.0.0.1\n")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	config := filepath.Join(t.TempDir(), "martlet.toml")
	if err := os.WriteFile(config, []byte("hostname = \"mail.hosted.test\"\ndata = \"data\"\n[discover]\nresolver = \""+s.Addr()+"\"\ndeadline = \"3s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "domain", "add", "hosted.test", "--config", config); got.code != 0 {
		t.Fatal(got)
	}
	for args, refused := range map[string]bool{"strange.example": true, "strange.example --allow-private": false, "strange.example --connect 127.0.0.1:1": false, "hosted.test": false, "me@hosted.test": false} {
		got := command(t, "", append(strings.Fields("discover --serve-check "+args), "--config", config)...)
		if got.code != exitFailed || strings.Contains(got.out, "not public") != refused {
			t.Errorf("%s: code %d\n%s%s", args, got.code, got.out, got.err)
		}
	}
}
