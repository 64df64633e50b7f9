package main

import (
	"context"
	"crypto/rand"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/pop3source"
)

func importPOP3() importSource {
	return importSource{
		use: "pop3", short: "Bring mail from a POP3 server",
		long: `Reads a mailbox at a POP3 server into INBOX. Without --from the server is found from the
address (see martlet discover); one that could be somebody else's is asked about at the
terminal before it hears a password, or named by --yes-host. pop3s:// is TLS from the first byte, pop3:// is STLS if the
server has it; a password goes over a line without TLS to this machine only, unless
--insecure says so. POP3 has no flags and no mailboxes: where the provider has IMAP, martlet
import imap brings more.

With --delete-at-source what was brought is removed there at the end: each message only
when it is safely here.`,
		example: `  pass show old-mail | martlet import pop3 --from pop3s://pop.example.net --user carol --password-stdin --to carol@example.org
  martlet import pop3 --user carol@example.net --to carol@example.org --plan
  martlet import pop3 --from pop3s://pop.example.net --user carol --password-stdin --to carol@example.org --delete-at-source --older-than 30d`,
		args: arguments(0, 0),
		flags: func(f *pflag.FlagSet) {
			f.String("from", "", "server: pop3s://HOST[:PORT] or pop3://HOST[:PORT]; without it, it is found from --user")
			yesHostFlag(f)
			f.String("user", "", "name to sign in with there (needed)")
			f.Bool("password-stdin", false, "read the password from the first line of standard input")
			f.String("mechanism", "", "sign in this way alone: PLAIN, SCRAM-SHA-256, SCRAM-SHA-1, XOAUTH2, OAUTHBEARER, USER or APOP")
			f.Bool("token-stdin", false, "read an OAuth access token from the first line of standard input")
			signInFlags(f)
			f.String("ca", "", "PEM file with authorities whose certificates count, in place of those of the system")
			f.Bool("insecure", false, "take any certificate, and send the password without TLS if there is none")
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
	if opt.User, _ = f.GetString("user"); opt.User == "" {
		return nil, misused("--user is missing: the name to sign in with at the other server")
	}
	opt.Insecure, _ = f.GetBool("insecure")
	ca, _ := f.GetString("ca")
	var err error
	if opt.Roots, _, err = authorities(conf.Path(ca)); err != nil {
		return nil, misconfigured(err)
	}
	if text, _ := f.GetString("older-than"); text != "" {
		if _, err := dayOf("--older-than", text, time.Now()); err != nil {
			return nil, err
		}
	}
	if err := pop3Server(cmd, &opt); err != nil {
		return nil, err
	}
	sign, err := importSignIn(cmd, opt.User)
	if sign == nil && err == nil {
		var cred imapc.Credentials
		cred, err = imapCredentials(cmd, opt.User)
		sign = func(context.Context) (imapc.Credentials, error) { return cred, nil }
	}
	if err != nil {
		return nil, err
	}
	opt.Credentials = func(ctx context.Context) (pop3source.Credentials, error) {
		c, err := sign(ctx)
		return pop3source.Credentials{Password: c.Password, Token: c.Token, Mechanism: c.Mechanism}, err
	}
	return func(context.Context, func(string)) (move.Source, error) { return pop3source.New(opt), nil }, nil
}

// pop3Server sets the server of --from, or the one that is found for the address.
func pop3Server(cmd *cobra.Command, opt *pop3source.Options) (err error) {
	if from, _ := cmd.Flags().GetString("from"); from != "" {
		opt.Host, opt.Port, opt.Security, err = pop3URL(from)
		return err
	}
	at, err := foundService(cmd, opt.User, "pop3", opt.Insecure)
	if err != nil {
		return err
	}
	opt.Host, opt.Port, opt.User, opt.Dial = at.Host, uint16(at.Port), at.Username, at.dial
	switch at.Security {
	case discover.TLS:
		opt.Security = pop3source.TLS
	case discover.StartTLS:
		opt.Security = pop3source.StartTLS
	default:
		opt.Security = pop3source.OfferedTLS
	}
	return nil
}

// pop3URL reads pop3s://HOST[:PORT] or pop3://HOST[:PORT].
func pop3URL(text string) (host string, port uint16, security pop3source.Security, err error) {
	host, port, plain, err := serverURL(text, "pop3")
	if plain {
		security = pop3source.OfferedTLS
	}
	return host, port, security, err
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
	opened, err := run.opt.Open(ctx)
	if err != nil {
		return err
	}
	src := opened.(*pop3source.Source)
	defer src.Close()
	var keys []string
	err = run.target.EachTie(ctx, move.Box{Source: src.ID(), Mailbox: "INBOX"}, func(t move.Tie, now *move.Now) error {
		if now != nil && (until.IsZero() || now.Date.Before(until)) {
			keys = append(keys, t.Key)
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	_, err = src.Remove(ctx, "INBOX", keys)
	return err
}
