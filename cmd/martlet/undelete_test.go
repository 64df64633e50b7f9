package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"strings"
	"testing"
	"time"
)

// undeleted runs the command and returns what it printed of messages.
func undeleted(t *testing.T, config string, args ...string) (lines []deletedLine) {
	t.Helper()
	got := command(t, "", append([]string{"undelete", "carol@a.example", "--json", "--config", config}, args...)...)
	if got.code != 0 {
		t.Fatalf("undelete %v: %s", args, got.err)
	}
	for text := range strings.Lines(got.out) {
		var l deletedLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		lines = append(lines, l)
	}
	if n := len(lines); n == 0 || lines[n-1].Event != "done" || lines[n-1].Messages != int64(n-1) {
		t.Fatalf("undelete %v ends with %+v", args, lines)
	}
	return lines[:len(lines)-1]
}

// dialogue sends lines to a port, each when the one before is answered, and returns the answers.
func dialogue(t *testing.T, port int, lines ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	var all strings.Builder
	for _, l := range append([]string{""}, lines...) {
		if l != "" {
			fmt.Fprint(c, l+"\r\n")
		}
		answer, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		all.WriteString(answer)
	}
	return all.String()
}

// TestUndelete: mail deleted over POP3 comes back by one command, with a server and without,
// and once.
func TestUndelete(t *testing.T) {
	config := server(t, "a.example", "[[listen]]\nprotocol = \"smtp\"\naddress = \"127.0.0.1:0\"\n[[listen]]\nprotocol = \"pop3\"\naddress = \"127.0.0.1:0\"\n[deleted]\nkeep = \"30d\"\n")
	t.Run("online", func(t *testing.T) {
		ports := startHouse(t, config)
		for i := range 3 {
			err := smtp.SendMail(fmt.Sprintf("127.0.0.1:%d", ports["smtp"]), nil, "x@b.example", []string{"carol@a.example"},
				fmt.Appendf(nil, "From: Ann <x@b.example>\r\nSubject: number %d\r\n\r\nhello\r\n", i))
			if err != nil {
				t.Fatal(err)
			}
		}
		if out := dialogue(t, ports["pop3"], "USER carol@a.example", "PASS secret", "DELE 1", "DELE 2", "DELE 3", "QUIT"); strings.Contains(out, "-ERR") {
			t.Fatal(out)
		}
		all := undeleted(t, config, "--plan")
		if len(all) != 3 || all[0].Mailbox != "INBOX" || all[0].UID != 1 || all[0].Subject != "number 0" || all[0].From != "Ann" || all[0].Event != "deleted" {
			t.Errorf("the plan is %+v", all)
		}
		for args, want := range map[string]int{
			"--uid 2:* --mailbox INBOX": 2, "--subject NUMBER --since 1h": 3, "--subject other": 0, "--mailbox Sent": 0,
			"--since " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339): 0,
		} {
			if n := len(undeleted(t, config, append(strings.Fields(args), "--plan")...)); n != want {
				t.Errorf("%s finds %d, want %d", args, n, want)
			}
		}
		if n := len(undeleted(t, config, "--uid", "1", "--mailbox", "inbox")); n != 1 {
			t.Errorf("%d were given back", n)
		}
	})
	if n := len(undeleted(t, config)); n != 2 {
		t.Errorf("%d were given back offline", n)
	}
	if again := undeleted(t, config); len(again) != 0 {
		t.Errorf("given back again: %+v", again)
	}
	if got := command(t, "", "undelete", "carol@a.example", "--config", config); got.code != 0 || !strings.Contains(got.out, "no such deleted mail is kept") {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "mailbox", "list", "carol@a.example", "--json", "--config", config); !strings.Contains(got.out, `"name":"INBOX","role":"Inbox","subscribed":true,"messages":3`) {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "verify", "--config", config); got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestUndeleteIsMisused(t *testing.T) {
	config := server(t, "a.example", "")
	for args, c := range map[string]struct {
		code int
		says string
	}{
		"":                        {2, "missing argument"},
		"carol@a.example --uid 3": {2, "--uid needs --mailbox"},
		"carol@a.example --uid 3:x --mailbox INBOX": {1, "no set of UIDs"},
		"carol@a.example --since soon":              {2, "no time such as"},
		"nobody@a.example":                          {1, "no"},
		"carol@a.example --mailbox x//y":            {1, "level"},
		"carol@a.example":                           {0, ""},
	} {
		got := command(t, "", append(strings.Fields("undelete "+args), "--config", config)...)
		if got.code != c.code || !strings.Contains(got.err, c.says) {
			t.Errorf("undelete %s: %d %s", args, got.code, got.err)
		}
	}
	for text, says := range map[string]string{"keep = \"5m\"": "from 1h", "mailbox = \"a/b\"": "one level", "keep = \"50000d\"": "100 years"} {
		if err := os.WriteFile(config, []byte("[deleted]\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := command(t, "", "config", "check", config); got.code != 2 || !strings.Contains(got.err+got.out, says) {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
