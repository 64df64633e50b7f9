package peers

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
)

// TestCard starts `martlet try` as a person does and pastes the three commands of the
// card it prints.
func TestCard(t *testing.T) {
	if against() != "" {
		t.Skip("Dovecot prints no card")
	}
	base, err := martlet.PortBase()
	must(t, err)
	home := t.TempDir()
	cmd := exec.Command(built, "try", "--dir", filepath.Join(home, "data"), "--port-base", strconv.Itoa(base))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill() })
	programs.add("martlet")
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	var send, read, mutt string
	for timeout := time.After(20 * time.Second); mutt == ""; {
		select {
		case l, ok := <-lines:
			switch {
			case !ok:
				t.Fatal("the card ended early")
			case strings.HasPrefix(l, "printf "):
				send = l
			case strings.HasPrefix(l, "curl "):
				read = l
			case strings.HasPrefix(l, "neomutt "):
				mutt = l
			}
		case <-timeout:
			t.Fatal("the card has no command for neomutt after 20 s")
		}
	}
	shell := func(name, line string) string {
		programs.add(name)
		return program{name: "sh", args: []string{"-c", line}, home: home}.succeed(t).out
	}
	shell("curl", send)
	if got := shell("curl", read); !strings.HasSuffix(got, "Subject: Hello\r\n\r\nIt works.\r\n") {
		t.Errorf("the second command of the card reads %q", got)
	}
	keys := write(t, home, "keys", "set confirmcreate=no wait_key=no\npush \"<tag-pattern>~A<enter><tag-prefix><copy-message>"+home+"/copy<enter><quit>\"\n")
	p := program{name: "script", home: home, env: []string{"TERM=xterm"}, args: []string{"-qec", mutt + " -e 'source " + keys + "'", "/dev/null"}}
	r := p.run(t)
	programs.add("neomutt")
	if got, err := os.ReadFile(filepath.Join(home, "copy")); err != nil || !strings.Contains(string(got), "It works.") {
		t.Errorf("neomutt, as on the card, reads %q (%v)\n%.2000q", got, err, r.out)
	}
	program{name: "sh", home: home, args: []string{"-c", mutt + " -s 'From neomutt' -- bob@martlet.test"}, in: "Sent by neomutt.\n"}.succeed(t)
	if got := shell("curl", read); !strings.Contains(got, "Sent by neomutt.") {
		t.Errorf("what neomutt sent, as set up on the card, is not there; the newest is %q", got)
	}
	began := time.Now()
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	for range lines {
	}
	if err := cmd.Wait(); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("after SIGTERM it ended with %v, %s later", err, time.Since(began))
	}
}
