package importimap

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/test/peers/cyrus"
)

// unpacked returns where test/deps.sh has unpacked a server that cannot be installed beside
// Dovecot.
func unpacked(t *testing.T, name, program string) string {
	t.Helper()
	dir := os.Getenv("MARTLET_PEERS_UNPACKED")
	if dir == "" {
		dir = "../../../bin/peers"
	}
	dir, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
		t.Skipf("%s is not unpacked: test/deps.sh: %v", name, err)
	}
	return dir
}

// importAll fills a source, imports it and compares all.
func importAll(t *testing.T, addr string, cred imapc.Credentials, sep string) {
	t.Helper()
	opt := options(t, addr)
	opt.Insecure = true
	c := connect(t, opt, cred)
	stock(t, c, sep, count()/4, seed(t))
	m := startMartlet(t)
	out, err := run(t.Context(), m, addr, cred.User, cred.Password)
	if err != nil {
		t.Fatalf("%v: %s", err, out[max(0, len(out)-3000):])
	}
	there := map[string][]row{}
	for name, rows := range census(t, c) {
		if len(name) > 6 && name[:6] == "INBOX/" {
			name = name[6:] // the prefix of the server's namespace
		}
		there[name] = rows
	}
	equal(t, there, census(t, here(t, m)), true)
}

func TestImportFromCyrus(t *testing.T) {
	peers(t)
	s, err := cyrus.Start(cyrus.Options{Dir: t.TempDir(), Unpacked: unpacked(t, "cyrus", "usr/lib/cyrus/bin/imapd"), Domain: "example.net", Users: []string{"carol"}, Unsynced: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	client(t, options(t, s.IMAP), imapc.Credentials{User: "carol@example.net", Password: cyrus.Password})
	importAll(t, s.IMAP, imapc.Credentials{User: "carol@example.net", Password: cyrus.Password}, "/")
}

// Courier has "." between levels and all mailboxes below "INBOX.". Its imapd is run for each
// connection by this test, which has let the user in already (PREAUTH).
func TestImportFromCourier(t *testing.T) {
	peers(t)
	importAll(t, startCourier(t), imapc.Credentials{User: "carol", Password: "none is needed"}, ".")
}

func startCourier(t *testing.T) (addr string) {
	root := unpacked(t, "courier", "usr/bin/imapd")
	dir := t.TempDir()
	box := filepath.Join(dir, "Maildir")
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(box, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f, err := c.(*net.TCPConn).File()
			c.Close()
			if err != nil {
				continue
			}
			cmd := exec.Command(filepath.Join(root, "usr/bin/imapd"), box)
			cmd.Dir, cmd.Stdin, cmd.Stdout = dir, f, f
			cmd.Env = []string{"HOME=" + dir, "MAILDIR=" + box, "AUTHENTICATED=carol", "AUTHADDR=carol", "LD_LIBRARY_PATH=" + filepath.Join(root, "usr/lib") + ":" + filepath.Join(root, "usr/lib/x86_64-linux-gnu"),
				"IMAP_CAPABILITY=IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE", "IMAP_KEYWORDS=1", "IMAP_USELOCKS=1", "PATH=/usr/bin:/bin"}
			if cmd.Start() == nil {
				go cmd.Wait()
			}
			f.Close()
		}
	}()
	return l.Addr().String()
}
