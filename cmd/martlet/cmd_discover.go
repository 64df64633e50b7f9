package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/discover"
	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/fault"
)

// Exit codes of discover alone.
const (
	exitGuessed = 3
	exitNothing = 4
)

func newDiscoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "discover ADDRESS|DOMAIN", Short: "Find the mail servers of any provider",
		Long: `Finds the servers, ports, user name and way to sign in of the provider of an address: what
the domain publishes, a table of large providers, Thunderbird's database, the DNS, and at last
guesses that count only if the host has a valid certificate for its name. All are asked at
once. No password is asked for, and nobody is sent one. It needs no configuration.

A domain of this server is answered for by its configuration.

Exit codes, with --format too: 0 mail servers found, published by the provider or in a
table; 3 only guessed; 4 none found, or nothing that the program of --format speaks; 1 failed; 2 wrong usage.

With --format what people should know is on standard error and in the file. Settings without
encryption, or that others on the way could have changed, need --accept-insecure (else 1).

With --serve-check it looks at what a domain tells mail programs: it asks as Thunderbird, Outlook
and others do, reads the answers as strictly as they do, and connects to the servers named.
Exit code 1 if one of them finds no settings that work.`,
		Example: `  martlet discover me@example.org
  martlet discover me@example.org --format muttrc > ~/.muttrc
  martlet discover example.org --serve-check
  martlet discover me@example.org --json | jq '.services[] | select(.protocol == "imap")'`,
		Args: arguments(1, 1), RunE: runDiscover,
	}
	f := cmd.Flags()
	f.Bool("explain", false, "ask every source, and tell what each said")
	f.Bool("probe", false, "connect to each server that was found: certificate, greeting, what it offers; without a login")
	f.Duration("timeout", 0, "how long it may take at most (default 8s)")
	f.String("resolver", "", "DNS server to ask, as host:port")
	f.String("ca", "", "PEM file with authorities whose certificates count, in place of those of the system")
	f.Bool("allow-private", false, "connect to addresses that are not public, too")
	formatFlags(cmd)
	serveCheckFlags(cmd)
	return cmd
}

func runDiscover(cmd *cobra.Command, args []string) error {
	o, err := discoverOptions(cmd)
	if err != nil {
		return err
	}
	if check, _ := cmd.Flags().GetBool("serve-check"); check {
		return serveCheck(cmd, args[0], o)
	}
	finder, err := discover.New(o)
	if err != nil {
		return misconfigured(err)
	}
	a, err := finder.Find(cmd.Context(), args[0])
	if fault.Is(err, fault.Invalid) {
		return misused("%s", fault.Say(err))
	}
	if err != nil {
		return err
	}
	if done, err := writesFormat(cmd, a); done {
		return err
	}
	if wantsJSON(cmd) {
		err = printJSON(cmd.OutOrStdout(), a)
	} else {
		err = showAnswer(cmd.OutOrStdout(), a)
	}
	if err != nil {
		return err
	}
	return foundCode(a)
}

// foundCode is an error without a text: the output has said all.
func foundCode(a *discover.Answer) error {
	code := exitNothing
	for _, s := range a.Services {
		if !isMail(s) {
			continue
		}
		if s.Confidence != discover.Guessed {
			return nil
		}
		code = exitGuessed
	}
	return &failure{code: code}
}

// isMail leaves out calendars, filters and what else is no mail.
func isMail(s discover.Service) bool {
	return s.Protocol == "imap" || s.Protocol == "pop3" || s.Protocol == "smtp"
}

// discoverOptions come from the flags, then from the configuration if there is one: that of
// a server on this machine must not be needed to find another.
func discoverOptions(cmd *cobra.Command) (o discover.Options, err error) {
	cfg, err := optionalConfig(cmd)
	if err != nil {
		return o, err
	}
	o = discover.Options{
		Dial: new(net.Dialer).DialContext, Now: time.Now, Random: rand.Reader, Database: discover.DefaultDatabase,
	}
	if cfg != nil {
		o.Deadline, o.Database, o.AllowPrivate = time.Duration(cfg.Discover.Deadline), cfg.Discover.Database, cfg.Discover.AllowPrivate
		o.Own = ownDomains(cmd, cfg)
		if o.Overrides, err = overrides(cfg); err != nil {
			return o, err
		}
	} else {
		cfg = &conf.Config{}
	}
	f := cmd.Flags()
	o.Explain, _ = f.GetBool("explain")
	o.Probe, _ = f.GetBool("probe")
	if private, _ := f.GetBool("allow-private"); private {
		o.AllowPrivate = true
	}
	if d, _ := f.GetDuration("timeout"); d != 0 {
		if o.Deadline = d; d < 0 {
			return o, misused("--timeout is a time such as 8s")
		}
	}
	ca, _ := f.GetString("ca")
	if o.Roots, _, err = authorities(conf.Path(ca)); err != nil {
		return o, misconfigured(err)
	}
	named, _ := f.GetString("resolver")
	client, err := discoverResolver(cmp.Or(named, string(cfg.Discover.Resolver)), cfg)
	o.Resolver = client
	return o, err
}

// discoverResolver asks the named name server, or those of the configuration or the machine.
// Each is asked twice within the 2 s that a question has: a packet may be lost, a server down.
func discoverResolver(named string, cfg *conf.Config) (*dnsx.Client, error) {
	servers := []string{named}
	switch {
	case named == "":
		servers = nameServers(cfg, slog.New(slog.DiscardHandler))
	case !strings.Contains(named, ":") || net.ParseIP(named) != nil:
		servers = []string{net.JoinHostPort(named, "53")}
	}
	c, err := dnsx.New(dnsx.Options{
		Servers: servers, TrustAD: cfg.Queue.ResolverValidates, Rounds: 2, Timeout: max(450*time.Millisecond, 900*time.Millisecond/time.Duration(len(servers))),
		Now: time.Now, ID: dns.Id, Dial: new(net.Dialer).DialContext,
	})
	return c, misconfigured(err)
}

// optionalConfig is nil if there is none where commands look, and none was named.
func optionalConfig(cmd *cobra.Command) (*conf.Config, error) {
	path, err := configPath(cmd)
	if err != nil {
		return nil, nil
	}
	cfg, _, err := loadConfigFile(path)
	if err != nil {
		if named, _ := cmd.Flags().GetString("config"); named == "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "martlet: %s cannot be used, and is not: %s\n", path, describe(err))
			return nil, nil
		}
	}
	return cfg, err
}

func overrides(cfg *conf.Config) (string, error) {
	path := string(cfg.Discover.Overrides)
	if path == "" {
		return "", nil
	}
	text, err := files.ReadFile(path)
	if err != nil {
		return "", misused("the file of discover.overrides cannot be read: %v", err)
	}
	return string(text), nil
}

// ownDomains answers for the domains of the server that the configuration is of.
func ownDomains(cmd *cobra.Command, cfg *conf.Config) func(context.Context, string) (*discover.Own, error) {
	return func(ctx context.Context, domain string) (*discover.Own, error) {
		cl, err := connect(cmd, false)
		if err != nil {
			return nil, err
		}
		defer cl.close()
		ours := false
		err = cl.do(ctx, "GET", "/v1/domains", nil, func(line json.RawMessage) error {
			var d struct {
				Domain string `json:"domain"`
			}
			if err := json.Unmarshal(line, &d); err != nil {
				return err
			}
			ours = ours || asciiName(d.Domain) == domain
			return nil
		})
		if err != nil || !ours {
			return nil, err
		}
		return &discover.Own{Provider: "this server", Services: announced(cfg)}, nil
	}
}

// sourceNames tell who says so, for people.
var sourceNames = map[string]string{
	"own": "a domain of this server", "override": "the local file of overrides", "pacc": "published by the domain, with a digest in its DNS",
	"autoconfig": "published by the provider, over HTTPS", "table": "the built-in table", "table-mx": "the built-in table, by the domain's mail host",
	"mx-table": "the built-in table, by who has the same mail host", "mx-database": "Thunderbird's database, by the domain's mail host",
	"alias": "the built-in table, by what its Autodiscover is an alias of", "database": "Thunderbird's database", "srv": "published in the DNS", "mx": "published by the host of the domain's mail",
	"autodiscover": "published by the provider, for Outlook", "autoconfig-http": "published by the provider, over plain HTTP",
	"guess": "guessed, and confirmed by certificates", "mx-host": "guessed from the domain's mail host",
}

// showAnswer writes an answer for people, and what to do next.
func showAnswer(out io.Writer, a *discover.Answer) error {
	head := paint(out, bold, clean(a.Domain))
	if a.Provider != "" && a.Provider != a.Domain {
		head += "  " + clean(a.Provider)
	}
	oneSource := len(a.Services) > 0 && !slices.ContainsFunc(a.Services, func(s discover.Service) bool { return s.Source != a.Services[0].Source })
	if oneSource {
		head += "  " + sourceText(a.Services[0])
	}
	fmt.Fprintln(out, head)
	if !slices.ContainsFunc(a.Services, isMail) {
		fmt.Fprintln(out, "  nothing   no mail servers were found; ask the provider")
	}
	showServices(out, a, oneSource)
	if text := signIn(a); text != "" {
		fmt.Fprintf(out, "  sign-in   %s\n", text)
	}
	for _, n := range a.Notes {
		fmt.Fprintf(out, "  note      %s\n", clean(n))
	}
	for _, s := range a.Steps {
		fmt.Fprintf(out, "  step      %-16s %5d ms  %s: %s\n", s.Name, s.Millis, clean(s.Asked), clean(s.Result))
	}
	if next := nextCommand(a); next != "" {
		fmt.Fprintf(out, "  next      %s\n", next)
	}
	return nil
}

// signIn says what to sign in with, as far as the source knows.
func signIn(a *discover.Answer) string {
	has := map[string]bool{}
	for _, s := range a.Services {
		if s.Source == "own" {
			return ""
		}
		for _, way := range s.Auth {
			has[way] = true
		}
	}
	switch {
	case has["oauth2"] && has["app-password"]:
		return "OAuth2, or an app password; not your own password"
	case has["oauth2"] && has["password"]:
		return "OAuth2, or your password"
	case has["oauth2"]:
		return "OAuth2 only; no password works"
	case has["app-password"]:
		return "an app password; not your own password"
	case has["password"]:
		return "your password"
	}
	return ""
}

// sourceText is who says so, and how far that counts.
func sourceText(s discover.Service) string {
	text := sourceNames[s.Source]
	if text == "" {
		text = clean(s.Source)
	}
	return "[" + text + ": " + s.Confidence + "]"
}

var uses = map[string]string{"imap": "read", "pop3": "read", "smtp": "send", "jmap": "read", "sieve": "filters", "caldav": "calendar", "carddav": "contacts"}

func showServices(out io.Writer, a *discover.Answer, oneSource bool) {
	widest := 0
	for _, s := range a.Services {
		widest = max(widest, len(s.Host)+len(s.URL))
	}
	last := ""
	for _, s := range a.Services {
		use := uses[s.Protocol]
		if use == last {
			use = ""
		} else {
			last = use
		}
		place := fmt.Sprintf("%-*s %5d  %-8s", min(widest, 48), clean(s.Host), s.Port, strings.ToUpper(s.Security))
		if s.URL != "" {
			place = clean(s.URL)
		}
		from := ""
		if !oneSource {
			from = "  " + sourceText(s)
		}
		fmt.Fprintf(out, "  %-9s %-7s %s  %s  %s%s\n", use, strings.ToUpper(s.Protocol), place, clean(s.Username), clean(strings.Join(s.Auth, " | ")), from)
		showProbe(out, s.Probe)
	}
}

func showProbe(out io.Writer, p *discover.Probe) {
	switch {
	case p == nil:
	case !p.OK:
		fmt.Fprintf(out, "  checked   FAILED: %s\n", clean(p.Error))
	default:
		until, _, _ := strings.Cut(p.Expires, "T")
		fmt.Fprintf(out, "  checked   %s, certificate valid until %s, offers %s\n", orDash(p.TLS), orDash(until), clean(strings.Join(p.Offers, " ")))
	}
}

// nextCommand brings the mail here, over IMAP if that is possible.
func nextCommand(a *discover.Answer) string {
	for _, s := range a.Services {
		if s.Protocol != "imap" && s.Protocol != "pop3" || s.Source == "own" {
			continue
		}
		if mistrust(s) != "" { // it asks about the host, which --from would name
			if !strings.Contains(a.Address, "@") {
				return ""
			}
			return fmt.Sprintf("martlet import %s --user %s --to ACCOUNT --plan", s.Protocol, quoted(clean(a.Address)))
		}
		scheme := s.Protocol
		if s.Security == discover.TLS {
			scheme += "s"
		}
		user := s.Username
		if strings.Contains(user, "%") {
			user = "NAME"
		}
		secret := "--password-stdin"
		if s.Protocol == "imap" && len(s.Auth) == 1 && s.Auth[0] == "oauth2" {
			secret = "--token-stdin"
		}
		return fmt.Sprintf("martlet import %s --from %s://%s --user %s %s --to ACCOUNT --plan",
			s.Protocol, scheme, net.JoinHostPort(s.Host, strconv.Itoa(s.Port)), quoted(clean(user)), secret)
	}
	return ""
}
