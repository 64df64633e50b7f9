package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
)

func importDbox() importSource {
	return importSource{
		use: "dbox PATH", short: "Bring mail from Dovecot's dbox, by its doveadm",
		long: `Reads Dovecot's sdbox or mdbox, the folder that mail_location names. Dovecot itself reads it:
doveadm and its IMAP program must be installed on this machine; no server needs to run and
no configuration is read. UIDs, flags, keywords and dates are kept, and clients download
nothing again. Dovecot may bring its own indexes there up to date, as whenever it opens
mail. Run it as root, or as the user whose files they are.`,
		example: `  martlet import dbox /var/vmail/example.org/carol/sdbox --to carol@example.org --plan
  martlet import dbox /var/vmail/example.org/carol/mdbox --to carol@example.org`,
		args: arguments(1, 1),
		open: openDbox,
	}
}

// dbox is Dovecot's IMAP program on a folder.
type dbox struct{ path, form, doveadm, id string }

// dboxSource is its mail, named by the folder.
type dboxSource struct {
	*imapsource.Source
	id string
}

// ID names the source.
func (s dboxSource) ID() string { return s.id }

// Advice says that it is not read over a network.
func (s dboxSource) Advice() move.Advice { return move.Advice{Files: true} }

func openDbox(_ *cobra.Command, args []string) (opener, error) {
	dir, name, id, err := sourcePath("dbox", args[0])
	if err != nil {
		return nil, err
	}
	d := dbox{path: dir, id: id}
	switch {
	case name == "." && isFolder(filepath.Join(dir, "storage")):
		d.form = "mdbox"
	case name == "." && isFolder(filepath.Join(dir, "mailboxes")):
		d.form = "sdbox"
	default:
		return nil, failed("%s is no dbox: it has neither a folder storage (mdbox) nor mailboxes (sdbox). It is the folder that Dovecot's mail_location names", args[0])
	}
	if strings.ContainsAny(dir, ":%\r\n\"\\") {
		return nil, failed("Dovecot cannot be told of a folder whose path has one of : %% \" \\ or a line end; move it: %s", dir)
	}
	if d.doveadm, err = exec.LookPath("doveadm"); err != nil {
		return nil, failed("doveadm is not installed: Dovecot's own program reads its dbox (packages dovecot-core and dovecot-imapd). Or let Dovecot write a Maildir on the other machine, doveadm backup -u USER maildir:/some/folder, and run martlet import maildir")
	}
	if uid, _ := folderOwner(dir); uid == 0 && os.Geteuid() == 0 {
		return nil, failed("the folder %s belongs to root, and Dovecot opens no mail as root: give it to another user (chown -R), or run this as that user", dir)
	}
	if err := d.greets(); err != nil {
		return nil, err
	}
	return func(context.Context, func(string)) (move.Source, error) {
		o := imapc.Options{
			Host: "localhost", Security: imapc.OfferedTLS, Dial: d.dial, Now: time.Now, Random: rand.Reader, Compress: imapc.CompressNever, Timeout: 10 * time.Minute,
		}
		return dboxSource{imapsource.New(imapsource.Options{
			IMAP: o, User: "dbox", KeepUIDs: true, BytesPerDay: -1, Patience: time.Second,
			Credentials: func(context.Context) (imapc.Credentials, error) { return imapc.Credentials{User: "dbox"}, nil },
		}), d.id}, nil
	}, nil
}

// greets tries whether Dovecot opens the folder at all: what is wrong with it is not
// mended by trying again.
func (d dbox) greets() error {
	c, err := d.dial(context.Background(), "", "")
	if err != nil {
		return failed("doveadm cannot be started: %v", err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	line, err := bufio.NewReader(c).ReadString('\n')
	if strings.HasPrefix(line, "* PREAUTH ") {
		return nil
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return err
	}
	return failed("Dovecot's IMAP program does not greet: %q %v; is dovecot-imapd installed?", line, err)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// dial starts Dovecot's IMAP program on the folder: it greets as one who has signed in.
func (d dbox) dial(context.Context, string, string) (net.Conn, error) {
	dir, err := os.MkdirTemp("", "martlet-dbox-*")
	if err != nil {
		return nil, err
	}
	file, home, err := d.prepare(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	cmd := exec.Command(d.doveadm, "-c", file, "exec", "imap")
	cmd.Env = []string{"HOME=" + home, "USER=martlet-import", "PATH=" + os.Getenv("PATH")}
	c := &programConn{cmd: cmd, home: dir}
	cmd.Stderr = &c.said
	if err := c.start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return c, nil
}

// prepare writes the configuration into a folder, and makes a home in it for the owner of the mail.
// As root, nothing is written where that owner may write: he could lay a link there, or another
// configuration, which doveadm reads as root.
func (d dbox) prepare(dir string) (file, home string, err error) {
	uid, gid := folderOwner(d.path)
	home, file = filepath.Join(dir, "home"), filepath.Join(dir, "dovecot.conf")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", "", err
	}
	_, err = f.WriteString(d.settings(home, uid, gid))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Mkdir(home, 0o700)
	}
	if err == nil && os.Geteuid() == 0 {
		if err = os.Chmod(dir, 0o711); err == nil { // to go through, not to write
			err = os.Chown(home, uid, gid)
		}
	}
	return file, home, err
}

// settings is a configuration of Dovecot 2.3 that knows nothing but the folder.
func (d dbox) settings(home string, uid, gid int) string {
	return fmt.Sprintf(`protocols = imap
base_dir = %s/run
ssl = no
log_path = /dev/stderr
mail_location = %s:%s
mail_uid = %d
mail_gid = %d
first_valid_uid = 1
first_valid_gid = 0
mail_home = %[1]s
`, home, d.form, d.path, uid, gid)
}

// programConn is a program's standard input and output as a connection.
type programConn struct {
	cmd  *exec.Cmd
	in   *os.File // of ours
	out  *os.File
	home string
	said limitedText
}

// limitedText keeps the end of what a program complains of.
type limitedText struct{ text []byte }

func (l *limitedText) Write(p []byte) (int, error) {
	l.text = append(l.text, p...)
	if over := len(l.text) - 1000; over > 0 {
		l.text = l.text[over:]
	}
	return len(p), nil
}

func (c *programConn) start() error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	back, answer, err := os.Pipe()
	if err != nil {
		return errors.Join(err, theirs.Close(), ours.Close())
	}
	c.in, c.out, c.cmd.Stdin, c.cmd.Stdout = back, ours, theirs, answer
	err = c.cmd.Start()
	theirs.Close()
	answer.Close()
	if err != nil {
		back.Close()
		ours.Close()
	}
	return err
}

func (c *programConn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if n == 0 && err == io.EOF {
		_ = c.cmd.Wait()
		if text := strings.TrimSpace(string(c.said.text)); text != "" {
			return 0, failed("Dovecot does not open the folder: %s", text)
		}
	}
	return n, err
}

func (c *programConn) Write(p []byte) (int, error) { return c.out.Write(p) }

// Close ends the program: it goes when there is nobody to talk to.
func (c *programConn) Close() error {
	err := errors.Join(c.out.Close(), c.in.Close())
	_ = c.cmd.Wait()
	return errors.Join(err, os.RemoveAll(c.home))
}

func (c *programConn) LocalAddr() net.Addr                { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (c *programConn) RemoteAddr() net.Addr               { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (c *programConn) SetReadDeadline(t time.Time) error  { return c.in.SetReadDeadline(t) }
func (c *programConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }
func (c *programConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
