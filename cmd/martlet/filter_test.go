package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What their makers have every scanner take for spam, and for a virus.
const (
	gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
	eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`
)

// program runs one of Debian's filters until the test ends, and waits until it listens.
func program(t *testing.T, address, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	run, log := exec.Command(path, args...), new(syncLog)
	run.Stdout, run.Stderr, run.WaitDelay = log, log, time.Second
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-run.Process.Pid, syscall.SIGKILL) // with those that it has started
		run.Wait()
		if t.Failed() {
			t.Logf("%s says\n%s", name, log.b.String())
		}
	})
	waitFor(t, name, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func writeConf(t *testing.T, name, format string, args ...any) string {
	t.Helper()
	if err := os.WriteFile(name, fmt.Appendf(nil, format, args...), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func startRspamd(t *testing.T) (address string) {
	dir, address := t.TempDir(), freeAddress(t)
	file := writeConf(t, filepath.Join(dir, "rspamd.conf"), `
options { pidfile = "%[1]s/pid"; filters = []; control_socket = "%[1]s/control mode=0600"; dns { nameserver = ["127.0.0.1:1"]; timeout = 1s; retransmits = 1; } }
logging { type = "console"; level = "info"; }
worker "rspamd_proxy" { bind_socket = "%[2]s"; milter = yes; timeout = 10s; count = 1; upstream "local" { default = yes; self_scan = yes; } }
metric "default" { actions { reject = 15; "add header" = 6; } }
`, dir, address)
	program(t, address, "rspamd", "-f", "-i", "-c", file)
	return address
}

func startClamAV(t *testing.T) (address string) {
	if _, err := exec.LookPath("clamav-milter"); err != nil {
		t.Skip("clamav-milter is not installed")
	}
	dir, scanner, address := t.TempDir(), freeAddress(t), freeAddress(t)
	writeConf(t, filepath.Join(dir, "test.hdb"), "44d88612fea8a8f36de82e1278abb02f:68:Test-Eicar\n")
	scannerHost, scannerPort, _ := net.SplitHostPort(scanner)
	program(t, scanner, "clamd", "--foreground", "--config-file="+writeConf(t, filepath.Join(dir, "clamd.conf"),
		"DatabaseDirectory %s\nTCPSocket %s\nTCPAddr %s\nUser root\n", dir, scannerPort, scannerHost))
	host, port, _ := net.SplitHostPort(address)
	program(t, address, "clamav-milter", "--config-file="+writeConf(t, filepath.Join(dir, "milter.conf"),
		"MilterSocket inet:%s@%s\nClamdSocket tcp:%s\nOnInfected Reject\nRejectMsg Virus found: %%v\nForeground yes\nAddHeader Replace\nUser root\n", port, host, scanner))
	return address
}

// rspamd and ClamAV from Debian look at mail: they refuse what they are made to refuse, leave
// their marks on what they let pass, and mail waits while one is away.
func TestRealFilters(t *testing.T) {
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it")
	}
	clamav, rspamd := startClamAV(t), startRspamd(t)
	config := newConfig(t)
	writeConf(t, config, `hostname = "mx.example.org"
data = "data"
[[listen]]
protocol = "smtp"
address = "127.0.0.1:0"
[[milter]]
name = "clamav"
address = %q
[[milter]]
name = "rspamd"
address = %q
timeout = "10s"
`, clamav, rspamd)
	for _, args := range [][]string{{"domain", "add", "example.org"}, {"account", "add", "bob@example.org"}} {
		if got := command(t, "", append(args, "--config", config)...); got.code != 0 {
			t.Fatal(got)
		}
	}
	ports := serveHouse(t, config, slog.New(slog.DiscardHandler), renewal{})
	at := fmt.Sprintf("127.0.0.1:%d", ports["smtp"])
	send := func(file string) string {
		err := smtp.SendMail(at, nil, "alice@example.net", []string{"bob@example.org"},
			[]byte("From: alice@example.net\r\nTo: bob@example.org\r\nSubject: hi\r\nMessage-ID: <1@example.net>\r\nDate: "+time.Now().Format(time.RFC1123Z)+"\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"+
				"--b\r\n\r\n"+file+"\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=file.com\r\n\r\n"+
				base64.StdEncoding.EncodeToString([]byte(file))+"\r\n--b--\r\n"))
		return fmt.Sprint(err)
	}
	if got := send("How are you?"); got != "<nil>" {
		t.Errorf("a letter: %s", got)
	}
	if got := send(gtube); !strings.HasPrefix(got, "550") || !strings.Contains(strings.ToLower(got), "gtube") {
		t.Errorf("spam: %s", got)
	}
	if got := send(eicar); !strings.HasPrefix(got, "550") || !strings.Contains(got, "Virus found: Test-Eicar") {
		t.Errorf("a virus: %s", got)
	}
	story := command(t, "", "trace", "bob@example.org", "--config", config)
	for _, want := range []string{"bob@example.org: delivered to INBOX", "rspamd: ", "clamav: Virus found"} {
		if !strings.Contains(story.out, want) {
			t.Errorf("the story lacks %q:\n%s", want, story.out)
		}
	}
}
