package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/publish"
)

// namesConfig is a configuration whose names a server for tests answers for.
func namesConfig(t *testing.T, more string) (path string, names *dnstest.Server) {
	t.Helper()
	names, err := dnstest.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	path = filepath.Join(t.TempDir(), "martlet.toml")
	text := fmt.Sprintf("hostname = \"mail.example.org\"\ndata = \"data\"\n[dns]\naddresses = [\"192.0.2.1\"]\n[queue]\nresolver = %q\n%s", names.Addr(), more)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, names
}

// What dns show prints and somebody puts into the DNS is what dns diff finds there.
func TestDNSShowAndDiff(t *testing.T) {
	config, names := namesConfig(t, "")
	run := func(args string) ran { return command(t, "", strings.Fields(args+" --config "+config)...) }
	if got := run("domain add example.org --json"); got.code != 0 || !strings.Contains(got.out, `-ed"`) || !strings.Contains(got.out, `-rsa"`) {
		t.Fatalf("%+v", got)
	}
	var all []publish.Record
	if got := run("dns show example.org --json"); got.code != 0 || json.Unmarshal([]byte(got.out), &all) != nil || len(all) < 15 {
		t.Fatalf("%+v", got)
	}
	if got := run("dns diff example.org"); got.code != 1 || !strings.Contains(got.err, "must be put right") || !strings.Contains(got.out, "missing") {
		t.Errorf("%+v", got)
	}
	zone := run("dns show example.org --format zone")
	if err := names.SetZone(strings.ReplaceAll(zone.out, "; (not in this zone) ", "")); err != nil {
		t.Fatal(err)
	}
	if got := run("dns diff example.org"); got.code != 0 || strings.Contains(got.out, "missing") || strings.Contains(got.out, "wrong") {
		t.Errorf("%+v", got)
	}
	for _, format := range []string{"table", "forms", "csv"} {
		if got := run("dns show example.org --format " + format); got.code != 0 || !strings.Contains(got.out, "v=DMARC1; p=none; rua=mailto:postmaster@example.org") {
			t.Errorf("%s: %+v", format, got)
		}
	}
	for args, code := range map[string]int{"dns show example.org --format xml": 2, "dns show example.net": 1, "dns diff example.net": 1, "dns apply example.org": 1} {
		if got := run(args); got.code != code || got.err == "" {
			t.Errorf("%s: %+v", args, got)
		}
	}
}

// What dns apply cannot make, and the DNS does not have, is in its exit code.
func TestDNSApplyTellsWhatIsLeft(t *testing.T) {
	config, names := namesConfig(t, "[[dns.update]]\nzone = \"elsewhere.example\"\nserver = \"127.0.0.1:9\"\nkey_name = \"k\"\nkey_file = \"key\"\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(config), "key"), []byte("c2VjcmV0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args string) ran { return command(t, "", strings.Fields(args+" --config "+config)...) }
	run("domain add example.org")
	for _, args := range []string{"dns apply example.org", "dns apply example.org --dry-run"} {
		if got := run(args); got.code != 1 || !strings.Contains(got.err, "records that must be there are left for you: ") || !strings.Contains(got.err, "by hand (in no zone") || !strings.Contains(got.out, "by hand") {
			t.Errorf("%s: %+v", args, got)
		}
	}
	zone := strings.ReplaceAll(run("dns show example.org --format zone").out, "; (not in this zone) ", "")
	if err := names.SetZone(zone); err != nil {
		t.Fatal(err)
	}
	if got := run("dns apply example.org --all"); got.code != 0 || strings.Contains(got.out, "by hand") {
		t.Errorf("all is there: %+v", got)
	}
	if err := names.SetZone(strings.Replace(zone, "IN\tMX\t", "IN\tTXT\t", 1)); err != nil {
		t.Fatal(err)
	}
	if got := run("dns apply example.org"); got.code != 1 || !strings.Contains(got.err, "1 record that must be there is left for you") {
		t.Errorf("no MX: %+v", got)
	}
	steps := []publish.Step{{Record: publish.Record{Need: publish.Must}, Action: publish.Blocked}, {Record: publish.Record{Need: publish.Should}, Action: publish.Blocked}}
	if err := leftToDo("example.org", steps); err == nil || !strings.Contains(err.Error(), "1 blocked") {
		t.Errorf("blocked: %v", err)
	}
	if err := leftToDo("example.org", steps[1:]); err != nil {
		t.Errorf("what only should be there: %v", err)
	}
}

// Next keys do not sign before they are in the DNS, and the old ones stay there.
func TestDomainRotate(t *testing.T) {
	config, names := namesConfig(t, "")
	run := func(args string) ran { return command(t, "", strings.Fields(args+" --config "+config)...) }
	run("domain add example.org")
	if got := run("domain rotate example.org"); got.code != 0 || strings.Count(got.out, "._domainkey.example.org TXT\n") != 2 {
		t.Fatalf("%+v", got)
	}
	if got := run("domain rotate example.org"); got.code != 1 || !strings.Contains(got.err, "not in the DNS yet") {
		t.Errorf("%+v", got)
	}
	if err := names.SetZone(run("dns show example.org --format zone").out); err != nil {
		t.Fatal(err)
	}
	if got := run("domain rotate example.org"); got.code != 0 || !strings.Contains(got.out, "from now on") {
		t.Errorf("%+v", got)
	}
	got := run("domain keys example.org --json")
	if got.code != 0 || strings.Count(got.out, `"state":"retired"`) != 2 || strings.Count(got.out, `"state":"active"`) != 2 || strings.Contains(got.out, "PRIVATE") {
		t.Errorf("%+v", got)
	}
	if got := run("dns diff example.org"); strings.Contains(got.out, "missing   must      20") {
		t.Errorf("%+v", got)
	}
}

func TestDomainSet(t *testing.T) {
	config, _ := namesConfig(t, "")
	run := func(args string) ran { return command(t, "", strings.Fields(args+" --config "+config)...) }
	run("domain add example.org")
	if got := run("domain set example.org dmarc=reject mta-sts=enforce"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if got := run("dns show example.org --json"); !strings.Contains(got.out, "p=reject") {
		t.Errorf("%+v", got)
	}
	for args, says := range map[string]string{
		"domain set example.org dmarc":       "NAME=VALUE",
		"domain set example.org dmarc=x":     "one of none, quarantine, reject",
		"domain set example.org dmrc=x":      "no setting",
		"domain set example.net dmarc=none":  "not one of this server",
		"domain show example.net":            "not one of this server",
		"domain set example.org":             "missing argument",
		"domain rotate example.net":          "not one of this server",
		"domain keys example.net":            "not one of this server",
		"domain set example.org tls-reports": "NAME=VALUE",
	} {
		if got := run(args); got.code == 0 || !strings.Contains(got.err, says) {
			t.Errorf("%s: %+v", args, got)
		}
	}
	if got := run("domain show example.org"); got.code != 0 || !strings.Contains(got.out, "enforce") {
		t.Errorf("%+v", got)
	}
}

// The doctor of a running server: each line has the four fields, a message of its own comes in
// and is gone again, and what fails is in the exit code.
func TestDoctorCommand(t *testing.T) {
	names, err := dnstest.Start("! servfail gmail.com\n")
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	port := freeBase(t) + 25
	config := server(t, "example.org", fmt.Sprintf(
		"[[listen]]\nprotocol = \"smtp\"\naddress = \"127.0.0.1:%d\"\n[dns]\naddresses = [\"192.0.2.1\"]\n[queue]\nresolver = %q\nallow_private = true\n[doctor]\nntp = []\nblocklists = []\nprobe = []\nsigned = []\ndomain_lists = []\n", port, names.Addr()))
	startHouse(t, config)
	got := command(t, "", "doctor", "example.org", "--json", "--config", config)
	if got.code != 1 || !strings.Contains(got.err, "checks failed") {
		t.Errorf("%+v", got)
	}
	status := map[string]string{}
	for line := range strings.Lines(got.out) {
		var l map[string]string
		if err := json.Unmarshal([]byte(line), &l); err != nil || len(l) != 4 || l["check"] == "" || l["why"] == "" {
			t.Fatalf("%v in %s", err, line)
		}
		if _, has := l["fix"]; !has {
			t.Errorf("no fix: %s", line)
		}
		status[l["check"]] = l["status"]
	}
	for check, want := range map[string]string{
		"loop example.org": "ok", "open-relay": "ok", "greeting": "ok", "admin-socket": "ok", "store": "ok", "disk": "ok", "postmaster example.org": "ok",
		"mx example.org": "fail", "dkim example.org": "fail", "certificate": "fail", "port-25-listen": "fail", "abuse example.org": "warn",
		"config queue.allow_private": "warn", "port-25-out": "skipped",
	} {
		if status[check] != want {
			t.Errorf("%s is %q, not %s", check, status[check], want)
		}
	}
	if len(status) < 70 {
		t.Errorf("%d checks", len(status))
	}
	if got := command(t, "", "mailbox", "list", "carol@example.org", "--config", config); !strings.Contains(got.out, "INBOX    Inbox    0 ") {
		t.Errorf("the doctor's message is still there:\n%s", got.out)
	}
	people := command(t, "", "doctor", "--problems", "--config", config)
	if people.code != 1 || !strings.Contains(people.out, "fix: put into the DNS: example.org. IN MX 10 mail.example.org.") || strings.Contains(people.out, "\nok ") {
		t.Errorf("%+v", people)
	}
	if got := command(t, "", "doctor", "example.net", "--config", config); got.code != 1 || !strings.Contains(got.err, "not one of this server") {
		t.Errorf("%+v", got)
	}
}
