package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
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

That an export is under way is noted in --state, a file; after a kill the next one waits until
what was on its way has arrived.

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
	c.Flags().String("auth", "", "sign in as this user, a master, for --user (SASL authorization)")
	c.Flags().String("authz", "", "the same the other way round: to the mailboxes of this user, and sign in as --user")
	c.Flags().String("mechanism", "", "sign in by this mechanism alone: PLAIN, SCRAM-SHA-256, XOAUTH2, LOGIN ...")
	c.Flags().Bool("token-stdin", false, "read an OAuth access token from the first line of standard input")
	c.Flags().String("ca", "", "PEM file with authorities whose certificates count, in place of those of the system")
	c.Flags().Bool("insecure", false, "take any certificate, and send the password without TLS if there is none")
	c.Flags().Bool("keep-names", false, "mailboxes go to those of their names, whatever their roles are")
	c.Flags().Bool("proof", false, "read everything back from the server and compare the bytes")
	c.Flags().String("state", "", "file that notes that an export is under way (default: one in the user's cache folder)")
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
	server := imapsource.New(there)
	defer server.Close()
	bar := newExportBar(cmd)
	o := outward.ServerOptions{Source: src, Server: server, Spool: tempFile, Progress: bar.show, Wait: importWait}
	o.Mailboxes, _ = cmd.Flags().GetStringArray("mailbox")
	o.KeepNames, _ = cmd.Flags().GetBool("keep-names")
	o.Proof, _ = cmd.Flags().GetBool("proof")
	mark := exportMark(cmd, o.Source.ID()+" "+to+" "+there.User)
	o.Unsettled = mark.begin()
	report, err := outward.RunServer(cmd.Context(), o)
	bar.clear()
	if err != nil {
		return err
	}
	mark.end()
	return endExport(cmd, report, to)
}

// exportMark is a file that is there while an export to a server is under way, and after one
// that was killed. What is at the server is known by asking it; the file only says whether
// there may be more to come.
func exportMark(cmd *cobra.Command, what string) markFile {
	if name, _ := cmd.Flags().GetString("state"); name != "" {
		return markFile(name)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(what))
	return markFile(filepath.Join(dir, "martlet", "export-"+hex.EncodeToString(sum[:8])))
}

type markFile string

// settles is after how long a server has certainly taken in what it was sent.
const settles = time.Minute

// begin makes the file and tells whether an export was killed a moment ago. Without a place for it
// nothing is known.
func (f markFile) begin() (unsettled bool) {
	if f == "" {
		return false
	}
	info, err := os.Stat(string(f))
	unsettled = err == nil && time.Since(info.ModTime()) < settles
	_ = os.MkdirAll(filepath.Dir(string(f)), 0o700)
	now := time.Now()
	if os.WriteFile(string(f), nil, 0o600) == nil {
		_ = os.Chtimes(string(f), now, now)
	}
	return unsettled
}

func (f markFile) end() {
	if f != "" {
		_ = os.Remove(string(f))
	}
}

// serverThere reads the flags that name an account at another IMAP server.
func serverThere(cmd *cobra.Command) (o imapsource.Options, to string, err error) {
	text, _ := cmd.Flags().GetString("to")
	user, _ := cmd.Flags().GetString("user")
	if text == "" || user == "" {
		return o, "", misused("missing --to or --user; usage: %s", cmd.UseLine())
	}
	o.IMAP = imapc.Options{Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader, Version: imapVersion()}
	if o.IMAP.Host, o.IMAP.Port, o.IMAP.Security, err = imapURL(text); err != nil {
		return o, "", misused("--to %q is not of the form imaps://HOST or imap://HOST:PORT", text)
	}
	o.IMAP.Insecure, _ = cmd.Flags().GetBool("insecure")
	ca, _ := cmd.Flags().GetString("ca")
	if o.IMAP.Roots, _, err = authorities(conf.Path(ca)); err != nil {
		return o, "", misconfigured(err)
	}
	cred, err := imapCredentials(cmd, user)
	o.User, o.Wait = user, importWait
	o.Credentials = func(context.Context) (imapc.Credentials, error) { return cred, nil }
	return o, text, err
}
