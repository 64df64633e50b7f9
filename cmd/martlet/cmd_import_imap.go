package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/imapc"
	"github.com/martlet-mail/martlet/internal/move/imapsource"
)

func importIMAP() importSource {
	return importSource{
		use: "imap", short: "Bring mail from another IMAP server",
		long: `Reads an account at another provider. Without --from the server is found from the address
(see martlet discover); one that could be somebody else's is asked about at the terminal before
it hears a password, or named by --yes-host. imaps:// is TLS from the first byte, imap:// is STARTTLS if it is
offered; without TLS a password is sent to this machine only. At Gmail all mail is read once,
and its labels become mailboxes here.`,
		example: `  martlet import imap --user carol@example.net --to carol@example.org --plan
  martlet import imap --user carol@gmail.com --oauth google --to carol@example.org
  pass show old-mail | martlet import imap --from imaps://imap.example.net --user carol --password-stdin --to carol@example.org
  martlet import imap --from imap://127.0.0.1:1143 --user carol --auth master --to carol@example.org`,
		args:  arguments(0, 0),
		flags: imapFlags,
		open:  openIMAP,
	}
}

func imapFlags(f *pflag.FlagSet) {
	f.String("from", "", "server: imaps://HOST[:PORT] or imap://HOST[:PORT]; without it, it is found from --user")
	yesHostFlag(f)
	f.String("user", "", "whose mail it is: the name to sign in with (needed)")
	f.Bool("password-stdin", false, "read the password from the first line of standard input")
	f.String("auth", "", "sign in as this user, a master, for --user (SASL authorization)")
	f.String("authz", "", "the same the other way round: bring the mail of this user, and sign in as --user")
	f.String("mechanism", "", "sign in by this mechanism alone: PLAIN, SCRAM-SHA-256, XOAUTH2, LOGIN ...")
	f.Bool("token-stdin", false, "read an OAuth access token from the first line of standard input")
	signInFlags(f)
	f.String("ca", "", "PEM file with authorities whose certificates count, in place of those of the system")
	f.Bool("insecure", false, "take any certificate, and send the password without TLS if there is none")
	f.String("labels", "mailboxes", "what Gmail's labels become: mailboxes or keywords")
	f.Bool("keep-uids", false, "keep UIDs and UIDVALIDITY, so that clients need not download again when the server's name moves here")
	f.String("compress", "auto", "COMPRESS where offered: auto (not on this machine), always or never")
}

// openIMAP reads the flags of a server, and the password.
func openIMAP(cmd *cobra.Command, _ []string) (opener, error) {
	opt, err := imapOptions(cmd)
	if err != nil {
		return nil, err
	}
	reached := false
	return func(ctx context.Context, tell func(string)) (move.Source, error) {
		o := opt
		o.Tell = tell
		s := imapsource.New(o)
		if !reached { // a server that was never there is not waited for
			if err := s.Reach(ctx); err != nil {
				return nil, failed("%s%s", strings.TrimSuffix(describe(err), "."), trusting(err))
			}
			reached = true
		}
		return s, nil
	}, nil
}

// trusting says how to go on with a server whose authority is unknown.
func trusting(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "; name a file with its authority by --ca FILE, or take any certificate by --insecure"
	}
	return ""
}

// imapOptions are those of a source, from the flags.
func imapOptions(cmd *cobra.Command) (o imapsource.Options, err error) {
	f := cmd.Flags()
	user, _ := f.GetString("user")
	if user == "" {
		return o, misused("--user is missing: the name to sign in with at the other server")
	}
	o.User, o.Wait = user, importWait
	if whose, _ := f.GetString("authz"); whose != "" {
		o.User = whose
	}
	o.KeepUIDs, _ = f.GetBool("keep-uids")
	switch labels, _ := f.GetString("labels"); labels {
	case "mailboxes":
	case "keywords":
		o.Labels = imapsource.LabelKeywords
	default:
		return o, misused("--labels is mailboxes or keywords, not %q", labels)
	}
	login := user
	if o.IMAP, login, err = imapServer(cmd, user); err != nil {
		return o, err
	}
	if o.Credentials, err = importSignIn(cmd, login); o.Credentials != nil || err != nil {
		return o, err
	}
	cred, err := imapCredentials(cmd, login)
	o.Credentials = func(context.Context) (imapc.Credentials, error) { return cred, nil }
	return o, err
}

// imapCredentials reads the password or the token.
func imapCredentials(cmd *cobra.Command, login string) (cred imapc.Credentials, err error) {
	f := cmd.Flags()
	cred.User = login
	if master, _ := f.GetString("auth"); master != "" {
		cred.User, cred.Authz = master, login
	} else {
		cred.Authz, _ = f.GetString("authz")
	}
	mech, _ := f.GetString("mechanism")
	cred.Mechanism = strings.ToUpper(mech)
	if token, _ := f.GetBool("token-stdin"); token {
		if err := f.Set("password-stdin", "true"); err != nil {
			return cred, err
		}
	} else if on, _ := f.GetBool("password-stdin"); !on && isTerminal(cmd.InOrStdin()) {
		if err := f.Set("password-stdin", "true"); err != nil { // asked for at the terminal
			return cred, err
		}
	}
	secret, err := givenPassword(cmd)
	if err != nil {
		return cred, misused("standard input holds no password; give it as the first line, with --password-stdin")
	}
	if secret == nil {
		return cred, misused("there is no password; give it as the first line of standard input, with --password-stdin")
	}
	if token, _ := f.GetBool("token-stdin"); token {
		cred.Token = *secret
	} else {
		cred.Password = *secret
	}
	return cred, nil
}

// imapServer returns the server of --from, or the one that is found for the address, and the
// name to sign in with there.
func imapServer(cmd *cobra.Command, user string) (o imapc.Options, login string, err error) {
	f := cmd.Flags()
	o = imapc.Options{Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader, Version: imapVersion()}
	o.Insecure, _ = f.GetBool("insecure")
	ca, _ := f.GetString("ca")
	if o.Roots, _, err = authorities(conf.Path(ca)); err != nil {
		return o, "", misconfigured(err)
	}
	switch how, _ := f.GetString("compress"); how {
	case "auto":
	case "always":
		o.Compress = imapc.CompressAlways
	case "never":
		o.Compress = imapc.CompressNever
	default:
		return o, "", misused("--compress is auto, always or never, not %q", how)
	}
	from, _ := f.GetString("from")
	if from == "" {
		login, err = foundServer(cmd, user, &o)
		return o, login, err
	}
	o.Host, o.Port, o.Security, err = imapURL(from)
	return o, user, err
}

func imapVersion() string {
	if version == "" {
		return "development"
	}
	return version
}

// imapURL reads imaps://HOST[:PORT] or imap://HOST[:PORT].
func imapURL(text string) (host string, port uint16, security imapc.Security, err error) {
	host, port, plain, err := serverURL(text, "imap")
	if plain {
		security = imapc.OfferedTLS
	}
	return host, port, security, err
}

// foundServer finds the server of an address.
func foundServer(cmd *cobra.Command, address string, o *imapc.Options) (login string, err error) {
	at, err := foundService(cmd, address, "imap", o.Insecure)
	if err != nil {
		return "", err
	}
	o.Host, o.Port, o.Dial = at.Host, uint16(at.Port), at.dial
	switch at.Security {
	case discover.TLS:
		o.Security = imapc.TLS
	case discover.StartTLS:
		o.Security = imapc.StartTLS
	default:
		o.Security = imapc.OfferedTLS
	}
	return at.Username, nil
}

// foundService finds the server of an address for a protocol.
func foundService(cmd *cobra.Command, address, protocol string, insecure bool) (foundHost, error) {
	if !strings.Contains(address, "@") {
		return foundHost{}, misused("--from is missing: the server, such as %[1]ss://%[1]s.example.net. It is found from --user only if that is an address", protocol)
	}
	return findHost(cmd, "--user", address, []string{protocol}, insecure)
}
