package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/move/signin"
)

const linkLong = `A link keeps an account here in step with a mailbox elsewhere, while the server runs: new mail
there comes here, at once where the server there tells of it (IDLE), else every few minutes.
What is read, flagged or moved there is so here. With --both-ways the same goes the other way.
Nothing is deleted, here or there, unless it is asked for.`

func newLinkCommand() *cobra.Command {
	return family("link", "Keep an account in step with a mailbox elsewhere", linkLong,
		linkAddCommand(), linkListCommand(), linkShowCommand(),
		linkAction("pause", "Do nothing for links until they are resumed", "paused"),
		linkAction("resume", "Go on with links that are paused", "goes on"),
		linkRunCommand(), linkPasswdCommand(), linkRemoveCommand())
}

func linkAddCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "add ADDRESS", Short: "Bring the mail of a mailbox elsewhere, and what comes there",
		Long: linkLong + `

--from names the server: imaps:// or pop3s:// is TLS from the first byte, imap:// or pop3:// is
STARTTLS if it is offered; without TLS a password is sent to this machine only. --from may
be an address, too: then its server is found (martlet discover), and the user is that address. One that
could be somebody else's is asked about at the terminal first, or named by --yes-host.

The password is stored encrypted, and shown to nobody. It is tried first, and nothing is made
if it is refused.

` + signInHelp,
		Example: `  martlet link add carol@example.org --from carol@example.net --password-stdin
  pass show old | martlet link add carol@example.org --from imaps://imap.example.net --user carol --password-stdin --both-ways
  martlet link add carol@example.org --from carol@gmail.com --oauth google
  martlet link add carol@example.org --from pop3s://pop.example.net --user carol --password-stdin --into Old --json`,
		Args: arguments(1, 1), RunE: addLink,
	}
	f := c.Flags()
	f.SortFlags = false
	f.String("from", "", "server: imaps://HOST[:PORT], imap://, pop3s://, pop3://; or the address there (needed)")
	f.String("user", "", "name to sign in with there")
	yesHostFlag(f)
	passwordFlag(c)
	f.StringArray("mailbox", nil, `only mailboxes of this name there; * is anything within a level, "Lists/**" is all below`)
	f.String("into", "", "put all into this one mailbox here")
	f.Bool("both-ways", false, "carry flags and moves made here to the source")
	f.Bool("follow-deletes", false, "what is gone there goes into Trash here")
	f.Bool("delete-at-source", false, "what is deleted here goes into Trash there; POP3: remove there what is here")
	f.String("poll", "", "time between two looks, such as 5m (default: [links] poll)")
	f.String("since", "", "only messages of this day or later: 2026-03-01, 90d")
	f.Bool("insecure", false, "take any certificate, and send the password without TLS if there is none")
	f.Bool("no-try", false, "do not sign in first: make the link, and see")
	f.Bool("pop3", false, "of an address that is found: prefer POP3")
	signInFlags(f)
	return c
}

// linkServer is where a link goes to.
type linkServer struct {
	protocol, security, host, user string
	port                           uint16
}

// linkURL reads a URL of --from.
func linkURL(text string) (s linkServer, err error) {
	u, bad := url.Parse(text)
	forms := map[string]linkServer{
		"imaps": {protocol: "imap", security: "tls", port: 993}, "imap": {protocol: "imap", security: "offered", port: 143},
		"pop3s": {protocol: "pop3", security: "tls", port: 995}, "pop3": {protocol: "pop3", security: "offered", port: 110},
	}
	wrong := misused("--from %q is neither an address nor of the form imaps://HOST, imap://HOST:PORT, pop3s://HOST or pop3://HOST:PORT", text)
	if bad != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return s, wrong
	}
	s, ok := forms[u.Scheme]
	if !ok {
		return s, wrong
	}
	if p := u.Port(); p != "" {
		n, bad := strconv.ParseUint(p, 10, 16)
		if bad != nil || n == 0 {
			return s, wrong
		}
		s.port = uint16(n)
	}
	s.host = u.Hostname()
	return s, nil
}

// linkFrom is the server of --from, found if that is an address.
func linkFrom(cmd *cobra.Command) (s linkServer, err error) {
	f := cmd.Flags()
	from, _ := f.GetString("from")
	user, _ := f.GetString("user")
	switch {
	case from == "":
		return s, misused("--from is missing: the server there, such as imaps://imap.example.net, or the address there")
	case strings.Contains(from, "://"):
		if s, err = linkURL(from); err != nil {
			return s, err
		}
		if s.user = user; user == "" {
			err = misused("--user is missing: the name to sign in with at %s", s.host)
		}
		return s, err
	}
	protocols := []string{"imap", "pop3"}
	if pop3, _ := f.GetBool("pop3"); pop3 {
		protocols = []string{"pop3", "imap"}
	}
	if s, err = findLinkServer(cmd, from, protocols); user != "" {
		s.user = user
	}
	return s, err
}

// findLinkServer finds the server of an address.
func findLinkServer(cmd *cobra.Command, address string, protocols []string) (s linkServer, err error) {
	at, err := findHost(cmd, "--from", address, protocols, false)
	if err != nil {
		return s, err
	}
	return linkServer{protocol: at.Protocol, security: at.Security, host: at.Host, port: uint16(at.Port), user: at.Username}, nil
}

// linkSecret is what signs in: a password from standard input, or a grant.
func linkSecret(cmd *cobra.Command) (password string, grant *signin.Grant, err error) {
	cfg, err := optionalConfig(cmd)
	if err != nil {
		return "", nil, err
	}
	if grant, err = signInWanted(cmd, cfg); grant != nil || err != nil {
		return "", grant, err
	}
	if isTerminal(cmd.InOrStdin()) {
		_ = cmd.Flags().Set("password-stdin", "true") // asked for at the terminal
	}
	given, err := givenPassword(cmd)
	if err != nil {
		return "", nil, misused("standard input holds no password; give it as the first line, with --password-stdin")
	}
	if given == nil {
		return "", nil, misused("there is no password; give it as the first line of standard input, with --password-stdin, or sign in with --oauth")
	}
	return *given, nil, nil
}

func addLink(cmd *cobra.Command, args []string) error {
	s, err := linkFrom(cmd)
	if err != nil {
		return err
	}
	f := cmd.Flags()
	options := map[string]any{}
	for flag, key := range map[string]string{"both-ways": "both_ways", "follow-deletes": "follow_deletes", "delete-at-source": "delete_at_source"} {
		options[key], _ = f.GetBool(flag)
	}
	options["mailboxes"], _ = f.GetStringArray("mailbox")
	options["into"], _ = f.GetString("into")
	if text, _ := f.GetString("poll"); text != "" {
		var d conf.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil {
			return misused("--poll: %v", err)
		}
		options["poll_seconds"] = int64(time.Duration(d) / time.Second)
	}
	if text, _ := f.GetString("since"); text != "" {
		if options["since"], err = dayOf("--since", text, time.Now()); err != nil {
			return err
		}
	}
	password, grant, err := linkSecret(cmd)
	if err != nil {
		return err
	}
	insecure, _ := f.GetBool("insecure")
	noTry, _ := f.GetBool("no-try")
	body := map[string]any{
		"account": args[0], "protocol": s.protocol, "security": s.security, "host": s.host, "port": s.port, "insecure": insecure, "user": s.user,
		"options": options, "password": password, "grant": grant, "try": !noTry,
	}
	return change(cmd, call{"POST", "/v1/links", body, false}, func(a map[string]any) string {
		return fmt.Sprintf("link %v: %s is kept in step with %s at %s; see: martlet link show %v", a["id"], a["account"], a["user"], a["host"], a["id"])
	})
}

// linkLine is a link as the handler tells of it.
type linkLine struct {
	ID       int64      `json:"id"`
	Account  string     `json:"account"`
	State    string     `json:"state"`
	Watching bool       `json:"watching"`
	Protocol string     `json:"protocol"`
	Security string     `json:"security"`
	Host     string     `json:"host"`
	Port     int        `json:"port"`
	User     string     `json:"user"`
	OAuth    string     `json:"oauth"`
	Created  time.Time  `json:"created"`
	Last     *time.Time `json:"last_success"`
	Next     *time.Time `json:"next_try"`
	Error    string     `json:"error"`
	Fix      string     `json:"fix"`
	Brought  int64      `json:"brought"`
	Refused  int64      `json:"refused"`
	Why      string     `json:"refused_why"`
	Options  struct {
		Mailboxes      []string   `json:"mailboxes"`
		Into           string     `json:"into"`
		BothWays       bool       `json:"both_ways"`
		FollowDeletes  bool       `json:"follow_deletes"`
		DeleteAtSource bool       `json:"delete_at_source"`
		Poll           int64      `json:"poll_seconds"`
		Since          *time.Time `json:"since"`
	} `json:"options"`
}

func (l *linkLine) from() string {
	scheme := l.Protocol
	if l.Security == "tls" {
		scheme += "s"
	}
	return scheme + "://" + net.JoinHostPort(l.Host, strconv.Itoa(l.Port))
}

// state is the state, and what it waits for.
func (l *linkLine) state() string {
	if l.State == "ok" && l.Watching {
		return "ok, told of news"
	}
	return l.State
}

func moment(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("Jan 02 15:04:05")
}

func linkListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list [ADDRESS]", Short: "List the links, and how they are going",
		Long: `Lists the links of all accounts, or of one: ok, running, waiting (for the first run), failing
(it is tried again by itself) or paused (until somebody acts), and what is wrong in words.`,
		Example: `  martlet link list
  martlet link list carol@example.org
  martlet link list --json | jq 'select(.state == "failing" or .state == "paused")'`,
		Args: arguments(0, 1), RunE: listLinks,
	}
}

func listLinks(cmd *cobra.Command, args []string) error {
	path := "/v1/links"
	if len(args) == 1 {
		path += "?account=" + url.QueryEscape(args[0])
	}
	out := cmd.OutOrStdout()
	t := newTable(out, "LINK", "ACCOUNT", "FROM", "USER", "STATE", "LAST SUCCESS", "NEXT", "BROUGHT")
	var troubles []string
	return list(cmd, path, func(line json.RawMessage) error {
		var l linkLine
		if err := json.Unmarshal(line, &l); err != nil {
			return err
		}
		t.row(l.ID, l.Account, l.from(), l.User, l.state(), moment(l.Last), moment(l.Next), l.Brought)
		if l.Error != "" {
			troubles = append(troubles, fmt.Sprintf("%d: %s; %s", l.ID, l.Error, l.Fix))
		}
		if l.Refused > 0 {
			troubles = append(troubles, fmt.Sprintf("%d: %s could not be brought: %s", l.ID, counted(l.Refused, "message"), l.Why))
		}
		return nil
	}, func() error {
		if err := t.end("there are no links; add one with: martlet link add ADDRESS --from ..."); err != nil {
			return err
		}
		for _, text := range troubles {
			if _, err := fmt.Fprintln(out, clean(text)); err != nil {
				return err
			}
		}
		return nil
	})
}

func linkShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show LINK", Short: "Show a link, and how it is going",
		Example: "  martlet link show 3\n  martlet link show 3 --json | jq -r .state",
		Args:    arguments(1, 1), RunE: showLink,
	}
}

func linkPath(id string) string { return "/v1/links/" + url.PathEscape(id) }

func showLink(cmd *cobra.Command, args []string) error {
	return list(cmd, linkPath(args[0]), func(line json.RawMessage) error {
		var l linkLine
		if err := json.Unmarshal(line, &l); err != nil {
			return err
		}
		return l.show(cmd.OutOrStdout())
	}, func() error { return nil })
}

func (l *linkLine) show(w io.Writer) error {
	o := &l.Options
	signIn := "password"
	if l.OAuth != "" {
		signIn = "OAuth, " + l.OAuth
	}
	boxes := "all"
	if len(o.Mailboxes) > 0 {
		boxes = strings.Join(o.Mailboxes, ", ")
	}
	var does []string
	for _, can := range []struct {
		text string
		on   bool
	}{{"both ways", o.BothWays}, {"deletes are followed", o.FollowDeletes}, {"deletes at the source", o.DeleteAtSource}} {
		if can.on {
			does = append(does, can.text)
		}
	}
	rows := [][2]string{
		{"Account", l.Account}, {"From", l.from()}, {"User", l.User + " (" + signIn + ")"}, {"Mailboxes", boxes}, {"Into", orDash(o.Into)},
		{"Does", orDash(strings.Join(does, ", "))}, {"Looks", "every " + (time.Duration(o.Poll) * time.Second).String()},
		{"State", l.state()}, {"Last success", moment(l.Last)}, {"Next", moment(l.Next)}, {"Brought", counted(l.Brought, "message")},
	}
	if o.Since != nil {
		rows = append(rows, [2]string{"Since", o.Since.Format("2006-01-02")})
	}
	if l.Refused > 0 {
		rows = append(rows, [2]string{"Not brought", counted(l.Refused, "message") + ": " + l.Why})
	}
	if l.Error != "" || l.Fix != "" {
		rows = append(rows, [2]string{"Trouble", orDash(l.Error)}, [2]string{"What to do", l.Fix})
	}
	fmt.Fprintln(w, paint(w, bold, fmt.Sprintf("Link %d", l.ID)))
	for _, r := range rows {
		if _, err := fmt.Fprintf(w, "%-13s%s\n", r[0], clean(r[1])); err != nil {
			return err
		}
	}
	return nil
}

func linkAction(name, short, done string) *cobra.Command {
	return &cobra.Command{
		Use: name + " LINK...", Short: short,
		Example: fmt.Sprintf("  martlet link %[1]s 3\n  martlet link %[1]s 3 4 --json", name),
		Args:    arguments(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				err := change(cmd, call{"POST", linkPath(id) + "/" + name, nil, false}, func(a map[string]any) string {
					return fmt.Sprintf("link %v %s", a["id"], done)
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func linkRunCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run LINK", Short: "Run a link now, and say what it did",
		Long:    "Runs a link now and waits until it has run, whether the server runs or not.",
		Example: "  martlet link run 3\n  martlet link run 3 --json | jq .brought",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return change(cmd, call{"POST", linkPath(args[0]) + "/run", nil, false}, func(a map[string]any) string {
				n := func(key string) int64 { v, _ := a[key].(float64); return int64(v) }
				text := fmt.Sprintf("%s brought, %d changed, %d moved and %d thrown away here; %s carried to the source",
					counted(n("brought"), "message"), n("changed"), n("moved"), n("thrown"), counted(n("carried"), "change"))
				if k := n("refused"); k > 0 {
					text += fmt.Sprintf("; %s could not be brought: %v", counted(k, "message"), a["why"])
				}
				return text
			})
		},
	}
}

func linkPasswdCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "passwd LINK", Short: "Give a link another password, or sign in again",
		Long: "Gives a link another password, and has it tried at once.\n\n" + signInHelp,
		Example: `  pass show old | martlet link passwd 3 --password-stdin
  martlet link passwd 4 --oauth google`,
		Args: arguments(1, 1), RunE: setLinkPassword,
	}
	c.Flags().SortFlags = false
	passwordFlag(c)
	signInFlags(c.Flags())
	return c
}

func setLinkPassword(cmd *cobra.Command, args []string) error {
	password, grant, err := linkSecret(cmd)
	if err != nil {
		return err
	}
	body := map[string]any{"password": password, "grant": grant}
	return change(cmd, call{"PUT", linkPath(args[0]) + "/secret", body, false}, func(a map[string]any) string {
		return fmt.Sprintf("link %v has it, and is tried", a["id"])
	})
}

func linkRemoveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "remove LINK", Short: "Forget a link, and what signs in for it",
		Long: `Forgets a link, and what signs in for it. The mail that it brought stays, and is known as
brought: another link from there does not bring it again (martlet import forget).`,
		Example: "  martlet link remove 3\n  martlet link remove 3 --json",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := confirmed(cmd, "Forget link "+clean(args[0])+"?"); err != nil {
				return err
			}
			return change(cmd, call{"DELETE", linkPath(args[0]), nil, false}, func(a map[string]any) string {
				return fmt.Sprintf("link %v is forgotten", a["removed"])
			})
		},
	}
	c.Flags().Bool("yes", false, "do not ask")
	return c
}
