package main

import (
	"context"
	"crypto/rand"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/pop3source"
)

func importPOP3() importSource {
	return importSource{
		use: "pop3 --from URL --user NAME", short: "Bring mail from a POP3 server",
		long: `Reads a mailbox at a POP3 server into INBOX. pop3s:// is TLS from the first byte, pop3://
is STLS if the server has it; a password goes over a line without TLS to this machine only,
unless --insecure says so. POP3 has no flags and no mailboxes: where the provider has IMAP,
martlet import imap brings more.

With --delete-at-source what was brought is removed there at the end: each message only
when it is safely here.`,
		example: `  pass show old-mail | martlet import pop3 --from pop3s://pop.example.net --user carol --password-stdin --to carol@example.org
  martlet import pop3 --from pop3s://pop.example.net --user carol --password-stdin --to carol@example.org --delete-at-source --older-than 30d`,
		args: arguments(0, 0),
		flags: func(f *pflag.FlagSet) {
			f.String("from", "", "server: pop3s://HOST[:PORT] or pop3://HOST[:PORT]")
			f.String("user", "", "name to sign in with there")
			f.Bool("password-stdin", false, "read the password there from standard input, its first line")
			f.String("auth", "", "sign in this way only: PLAIN, SCRAM-SHA-256, SCRAM-SHA-1, USER or APOP")
			f.String("ca", "", "file of authorities to trust instead of the system's")
			f.Bool("insecure", false, "take any certificate, and send the password in the clear if there is no TLS")
			f.Bool("delete-at-source", false, "remove from the server what has been brought")
			f.String("older-than", "", "with --delete-at-source: only messages that are older, such as 30d")
		},
		open:  openPOP3,
		after: clearPOP3,
	}
}

func openPOP3(cmd *cobra.Command, _ []string) (opener, error) {
	f := cmd.Flags()
	opt := pop3source.Options{Dial: (&net.Dialer{Timeout: 30 * time.Second}).DialContext, Now: time.Now, Random: rand.Reader}
	from, _ := f.GetString("from")
	var err error
	if opt.Host, opt.Port, opt.Security, err = pop3URL(from); err != nil {
		return nil, err
	}
	if opt.User, _ = f.GetString("user"); opt.User == "" {
		return nil, misused("--user is missing: the name to sign in with at %s", opt.Host)
	}
	password, err := givenPassword(cmd)
	if err != nil {
		return nil, err
	}
	if password == nil {
		return nil, misused("--password-stdin is missing: the password at %s is read from standard input", opt.Host)
	}
	opt.Insecure, _ = f.GetBool("insecure")
	ca, _ := f.GetString("ca")
	if opt.Roots, _, err = authorities(conf.Path(ca)); err != nil {
		return nil, misconfigured(err)
	}
	if text, _ := f.GetString("older-than"); text != "" {
		if _, err := dayOf("--older-than", text, time.Now()); err != nil {
			return nil, err
		}
	}
	auth, _ := f.GetString("auth")
	opt.Credentials = func(context.Context) (pop3source.Credentials, error) {
		return pop3source.Credentials{Password: *password, Mechanism: auth}, nil
	}
	return func(context.Context, func(string)) (move.Source, error) { return pop3source.New(opt), nil }, nil
}

// pop3URL reads pop3s://HOST[:PORT] or pop3://HOST[:PORT].
func pop3URL(text string) (host string, port uint16, security pop3source.Security, err error) {
	wrong := misused("--from %q is not of the form pop3s://HOST or pop3://HOST:PORT", text)
	u, bad := url.Parse(text)
	if bad != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", 0, 0, wrong
	}
	switch u.Scheme {
	case "pop3s":
	case "pop3":
		security = pop3source.OfferedTLS
	default:
		return "", 0, 0, wrong
	}
	if p := u.Port(); p != "" {
		n, bad := strconv.ParseUint(p, 10, 16)
		if bad != nil || n == 0 {
			return "", 0, 0, wrong
		}
		port = uint16(n)
	}
	return u.Hostname(), port, security, nil
}

// clearPOP3 removes from the server what is here: the account's ties say what that is.
func clearPOP3(ctx context.Context, run *importRun) error {
	f := run.cmd.Flags()
	if on, _ := f.GetBool("delete-at-source"); !on {
		return nil
	}
	until := time.Time{}
	if text, _ := f.GetString("older-than"); text != "" {
		var err error
		if until, err = dayOf("--older-than", text, time.Now()); err != nil {
			return err
		}
	}
	src, err := run.opt.Open(ctx)
	if err != nil {
		return err
	}
	defer src.Close()
	var keys []string
	err = run.target.EachTie(ctx, move.Box{Source: src.ID(), Mailbox: "INBOX"}, func(t move.Tie, now *move.Now) error {
		if until.IsZero() || now != nil && now.Date.Before(until) {
			keys = append(keys, t.Key)
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	return src.(*pop3source.Source).Delete(ctx, "INBOX", keys, false)
}
