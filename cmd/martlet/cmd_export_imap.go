package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
	"github.com/martlet-mail/martlet/internal/move/outward"
)

func newExportIMAPCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "imap --account ADDRESS --to imaps://HOST --user NAME --password-stdin", Short: "Take an account to any IMAP server",
		Long: `Puts all mail of an account into one at another server: mailboxes with their roles,
messages with flags, keywords and dates. A mailbox goes into the one with its role there
(Sent into "Sent Items"), else into the one of its name, which is made if it is not there.

What is at the server already is found by Message-ID and size and not sent again, so the
command may be stopped at any moment and be run again: it goes on. Flags that a message
lacks there are set; none are taken away, and nothing is removed there.

At the end what the server has is compared with the account by Message-ID, size, date and
flags; with --proof all is read back and compared byte for byte. UIDs are the server's own.

imaps:// is TLS from the first byte, imap:// STARTTLS if the server offers it; a password
goes over a line in the clear only to this machine, or with --insecure.`,
		Example: `  martlet export imap --account carol@example.org --to imaps://imap.example.net --user carol --password-stdin <secret
  martlet export imap --account carol@example.org --to imaps://imap.example.net --user carol --password-stdin --proof --json <secret`,
		Args: arguments(0, 0), RunE: exportIMAP,
	}
	c.Flags().String("account", "", "address of the account here")
	c.Flags().String("to", "", "the other server: imaps://HOST[:PORT] or imap://HOST[:PORT]")
	c.Flags().String("user", "", "name to log in with there")
	c.Flags().Bool("password-stdin", false, "read the password for there from standard input")
	c.Flags().String("ca", "", "file of certificates of authorities to trust, PEM (default: those of the system)")
	c.Flags().Bool("insecure", false, "take any certificate, and a line without TLS")
	c.Flags().Bool("keep-names", false, "mailboxes go to those of their names, whatever their roles are")
	c.Flags().Bool("proof", false, "read everything back from the server and compare the bytes")
	c.Flags().StringArray("mailbox", nil, `only mailboxes of this name, "*" for anything, "%" for anything within a level; may be given again`)
	c.Flags().String("since", "", "only messages with an internal date from then on: 2026-03-01, 2026-03-01T12:30, 90m, 7d")
	c.Flags().SortFlags = false
	return c
}

func exportIMAP(cmd *cobra.Command, _ []string) error {
	there, to, err := serverThere(cmd)
	if err != nil {
		return err
	}
	src, _, done, err := openAccount(cmd)
	if err != nil {
		return err
	}
	defer done()
	dir, err := os.MkdirTemp("", "martlet-export-")
	if err != nil {
		return failed("no folder for large messages: %v", err)
	}
	defer os.RemoveAll(dir)
	spool, err := os.OpenRoot(dir)
	if err != nil {
		return failed("no folder for large messages: %v", err)
	}
	defer spool.Close()
	server := imapsource.New(there)
	defer server.Close()
	bar := newExportBar(cmd)
	o := outward.ServerOptions{Source: src, Server: server, Spool: spool, Progress: bar.show, Wait: pause}
	o.Mailboxes, _ = cmd.Flags().GetStringArray("mailbox")
	o.KeepNames, _ = cmd.Flags().GetBool("keep-names")
	o.Proof, _ = cmd.Flags().GetBool("proof")
	report, err := outward.RunServer(cmd.Context(), o)
	bar.clear()
	if err != nil {
		return err
	}
	return endExport(cmd, report, to)
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// serverThere reads the flags that name an account at another IMAP server.
func serverThere(cmd *cobra.Command) (o imapsource.Options, to string, err error) {
	text, _ := cmd.Flags().GetString("to")
	user, _ := cmd.Flags().GetString("user")
	if text == "" || user == "" {
		return o, "", misused("missing --to or --user; usage: %s", cmd.UseLine())
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "imap" && u.Scheme != "imaps" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return o, "", misused("--to %q is not of the form imaps://HOST[:PORT] or imap://HOST[:PORT]", text)
	}
	o.IMAP = imapc.Options{Host: u.Hostname(), Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader, Version: thisBuild().Version}
	if u.Scheme == "imap" {
		o.IMAP.Security = imapc.OfferedTLS
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return o, "", misused("--to %q has no port of 1 to 65535", text)
		}
		o.IMAP.Port = uint16(n)
	}
	o.IMAP.Insecure, _ = cmd.Flags().GetBool("insecure")
	if ca, _ := cmd.Flags().GetString("ca"); ca != "" {
		if o.IMAP.Roots, err = readRoots(ca); err != nil {
			return o, "", err
		}
	}
	if on, _ := cmd.Flags().GetBool("password-stdin"); !on {
		return o, "", misused("missing --password-stdin: the password for %s is read from standard input", u.Host)
	}
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 64<<10)).ReadString('\n')
	password := strings.TrimRight(line, "\r\n")
	if password == "" {
		return o, "", misused("there is no password on standard input (%v)", err)
	}
	o.User = user
	o.Credentials = func(context.Context) (imapc.Credentials, error) {
		return imapc.Credentials{User: user, Password: password}, nil
	}
	return o, text, nil
}

// readRoots reads certificates of authorities.
func readRoots(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, failed("cannot read the file of --ca: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, failed("there is no certificate in %s", name)
	}
	return pool, nil
}
