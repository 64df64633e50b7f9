package main

import (
	"encoding/json"
	"fmt"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
)

// eventually waits for what is on its way.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// server writes a configuration with one local domain and one account, carol.
func server(t *testing.T, domain, text string) (config string) {
	t.Helper()
	config = filepath.Join(t.TempDir(), "martlet.toml")
	if err := os.WriteFile(config, []byte("hostname = \"mail."+domain+"\"\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"domain add " + domain, "account add carol@" + domain + " --password-stdin"} {
		if got := command(t, "secret\n", append(strings.Fields(c), "--config", config)...); got.code != 0 {
			t.Fatalf("martlet %s: %s", c, got.err)
		}
	}
	return config
}

// queueOf returns what queue list --json tells.
func queueOf(t *testing.T, config string) (all []queued) {
	t.Helper()
	got := command(t, "", "queue", "list", "--json", "--config", config)
	if got.code != 0 {
		t.Fatal(got.err)
	}
	for _, line := range strings.Split(strings.TrimSpace(got.out), "\n") {
		var q queued
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, q)
	}
	return all
}

// TestQueueBetweenServers: mail to a host that is down waits with a reason, is held,
// released and told to go on by commands, and arrives once the host is up.
func TestQueueBetweenServers(t *testing.T) {
	dns, err := dnstest.Start("far.example. 60 IN MX 10 mx.far.example.\nmx.far.example. 60 IN A 127.0.0.1\n")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	port := freeBase(t) + 25
	far := server(t, "far.example", fmt.Sprintf("[[listen]]\nprotocol = \"smtp\"\naddress = \"127.0.0.1:%d\"\n", port))
	near := server(t, "near.example", fmt.Sprintf(
		"[[listen]]\nprotocol = \"submission\"\naddress = \"127.0.0.1:0\"\n[queue]\nresolver = %q\nport = %d\nallow_private = true\n", dns.Addr(), port))
	submission := fmt.Sprintf("127.0.0.1:%d", startHouse(t, near)["submission"])
	err = smtp.SendMail(submission, smtp.PlainAuth("", "carol@near.example", "secret", "127.0.0.1"),
		"carol@near.example", []string{"carol@far.example"}, []byte("From: carol@near.example\r\nSubject: far away\r\n\r\nhello\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	var q queued
	eventually(t, "a first attempt", func() bool {
		all := queueOf(t, near)
		if len(all) != 1 {
			t.Fatalf("the queue has %d messages, want 1", len(all))
		}
		q = all[0]
		return q.Attempts == 1 && !q.Sending
	})
	if q.From != "carol@near.example" || fmt.Sprint(q.To) != "[carol@far.example]" || q.Next == nil || !strings.Contains(q.Reason, "mx.far.example") {
		t.Errorf("queue list: %+v", q)
	}
	do := func(want int, args ...string) string {
		t.Helper()
		got := command(t, "", append(append([]string{"queue"}, args...), "--config", near)...)
		if got.code != want {
			t.Errorf("martlet queue %s: %+v", strings.Join(args, " "), got)
		}
		return got.out + got.err
	}
	if text := do(0, "list"); !strings.Contains(text, q.ID) || !strings.Contains(text, "1 message in the queue") || !strings.Contains(text, q.Reason) {
		t.Errorf("queue list: %s", text)
	}
	if text := do(0, "list", "--domain", "other.example"); !strings.Contains(text, "no message waits") {
		t.Errorf("queue list of another domain: %s", text)
	}
	if text := do(0, "show", q.ID); !strings.Contains(text, "waiting") || !strings.Contains(text, "carol@far.example") {
		t.Errorf("queue show: %s", text)
	}
	do(0, "hold", q.ID)
	if held := queueOf(t, near); len(held) != 1 || !held[0].Held || held[0].Next != nil {
		t.Errorf("held: %+v", held)
	}
	do(1, "retry", q.ID)
	startHouse(t, far)
	do(0, "release", "--all")
	do(0, "retry", "--all")
	eventually(t, "delivery", func() bool { return len(queueOf(t, near)) == 0 })
	got := command(t, "", "mailbox", "list", "carol@far.example", "--config", far)
	if !strings.Contains(got.out, "INBOX    Inbox    1 ") {
		t.Errorf("mailboxes of the recipient:\n%s%s", got.out, got.err)
	}
	if got := command(t, "", "verify", "--config", near); got.code != 0 {
		t.Errorf("verify: %+v", got)
	}
}

// TestQueueDrop: a dropped message goes silently, or with a report to its sender.
func TestQueueDrop(t *testing.T) {
	dns, err := dnstest.Start("! servfail far.example\n")
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	near := server(t, "near.example", fmt.Sprintf("[[listen]]\nprotocol = \"submission\"\naddress = \"127.0.0.1:0\"\n[queue]\nresolver = %q\n", dns.Addr()))
	submission := fmt.Sprintf("127.0.0.1:%d", startHouse(t, near)["submission"])
	for _, to := range []string{"a@far.example", "b@far.example"} {
		err = smtp.SendMail(submission, smtp.PlainAuth("", "carol@near.example", "secret", "127.0.0.1"),
			"carol@near.example", []string{to}, []byte("From: carol@near.example\r\n\r\nhello\r\n"))
		if err != nil {
			t.Fatal(err)
		}
	}
	// After a failure the whole domain pauses, so the second message may never be tried.
	eventually(t, "an attempt that failed", func() bool {
		tried := 0
		for _, q := range queueOf(t, near) {
			if q.Sending {
				return false
			}
			tried += q.Attempts
		}
		return tried > 0
	})
	first := queueOf(t, near)[0].ID
	if got := command(t, "", "queue", "drop", first, "--config", near); got.code != 0 || got.out != first+" dropped\n" {
		t.Errorf("queue drop: %+v", got)
	}
	if got := command(t, "", "queue", "drop", "--all", "--report", "--json", "--config", near); got.code != 0 || got.out != `{"action":"drop","count":1}`+"\n" {
		t.Errorf("queue drop --all: %+v", got)
	}
	eventually(t, "the report", func() bool {
		return strings.Contains(command(t, "", "mailbox", "list", "carol@near.example", "--config", near).out, "INBOX    Inbox    1 ")
	})
	if left := queueOf(t, near); len(left) != 0 {
		t.Errorf("left in the queue: %+v", left)
	}
}
