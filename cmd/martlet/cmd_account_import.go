package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/directory/foreign"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move/roster"
)

func newAccountImport() *cobra.Command {
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Make accounts from a list, with the password hashes of another server",
		Long: `Makes accounts from a list; - reads it from standard input. People keep their passwords: the
list has hashes of them, as Dovecot, LDAP, crypt(3), postfixadmin, mailcow or Django keep them.
It is CSV or a password file; which, is seen from its first line.

CSV (RFC 4180): a header names the columns, in any order: address (or email, username),
hash, password, quota (bytes), active (0 or no skips the line); others are passed over. Without
a header they are address and hash. What is in a column for passwords is a hash if it begins with
{SCHEME} or $id$; {PLAIN} in front makes anything a password. Lines with # in front are comments.

Password file: name:{SCHEME}hash:... as Dovecot's passwd-file, or name:$6$...:... as
/etc/shadow, with --domain.

Accounts that are there stay as they are unless --update is given. Run it again after a stop:
it goes on. What is in the list is never printed or logged but the addresses.`,
		Example: `  martlet account import users.csv --plan
  martlet account import /etc/dovecot/users
  mysql -B -e 'select username, password, active from mailbox' vmail | martlet account import -
  martlet account import shadow --domain example.org --json`,
		Args: arguments(1, 1), RunE: importAccounts,
	}
	f := cmd.Flags()
	f.Bool("plan", false, "only show what would be done")
	f.Bool("update", false, "give accounts that are there the password of the list, too")
	f.Bool("waiting", false, "lines without a hash or a password make accounts that wait for their first login (migrate-from)")
	f.String("domain", "", "domain of names that have none")
	f.String("format", "auto", "auto, csv or passwd")
	return cmd
}

// newcomer is a line of the answer about one person of a list.
type newcomer struct {
	Address string `json:"address"`
	Status  string `json:"status"` // create, update, exists, skip, refuse; done: created, updated, failed
	Scheme  string `json:"scheme,omitempty"`
	Waiting bool   `json:"waiting,omitempty"`
	Why     string `json:"why,omitempty"`
	Line    int    `json:"line"`

	person roster.Person
}

func importAccounts(cmd *cobra.Command, args []string) error {
	how := roster.Reading{}
	how.Domain, _ = cmd.Flags().GetString("domain")
	people, err := readRoster(cmd, args[0], how)
	if err != nil {
		return err
	}
	cfg, _, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	plan, _ := cmd.Flags().GetBool("plan")
	cl, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer cl.close()
	known, err := whoIsHere(cmd.Context(), cl)
	if err != nil {
		return err
	}
	update, _ := cmd.Flags().GetBool("update")
	waiting, _ := cmd.Flags().GetBool("waiting")
	tell := newcomerLines(cmd)
	counts := map[string]int{}
	for _, p := range people {
		n := judge(p, known, waiting, update, int64(cfg.Limits.PasswordMemory))
		if !plan {
			n = carryOut(cmd.Context(), cl, n)
		}
		counts[n.Status]++
		if err := tell.line(n); err != nil {
			return err
		}
		if err := cmd.Context().Err(); err != nil {
			return err
		}
	}
	return tell.end(counts, plan)
}

// readRoster reads a list of people from a file, which nobody else should be able to read.
func readRoster(cmd *cobra.Command, path string, how roster.Reading) ([]roster.Person, error) {
	switch format, _ := cmd.Flags().GetString("format"); format {
	case "", "auto":
	case "csv":
		how.Form = roster.CSV
	case "passwd":
		how.Form = roster.Passwd
	default:
		return nil, misused("--format is auto, csv or passwd, not %q", format)
	}
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, failed("cannot read the list: %v", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: others can read %s, which may hold passwords; chmod 600 it\n", clean(path))
		}
		in = f
	}
	people, err := roster.Read(in, how)
	if err != nil {
		return nil, failed("%s: %s", clean(path), fault.Say(err))
	}
	return people, nil
}

// present are the accounts and domains there are, in lower case.
type present struct{ accounts, domains map[string]bool }

func whoIsHere(ctx context.Context, cl *client) (present, error) {
	p := present{map[string]bool{}, map[string]bool{}}
	err := cl.do(ctx, "GET", "/v1/domains", nil, func(line json.RawMessage) error {
		var d struct {
			Domain string `json:"domain"`
		}
		err := json.Unmarshal(line, &d)
		p.domains[lowered(d.Domain)] = true
		return err
	})
	if err != nil {
		return p, err
	}
	return p, cl.do(ctx, "GET", "/v1/accounts", nil, func(line json.RawMessage) error {
		var a struct {
			Address string `json:"address"`
		}
		err := json.Unmarshal(line, &a)
		p.accounts[lowered(a.Address)] = true
		return err
	})
}

// judge says what is to be done about a person of a list.
func judge(p roster.Person, known present, mayWait, update bool, memory int64) newcomer {
	n := newcomer{Address: p.Address.String(), Line: p.Line, Status: "create", person: p}
	there := known.accounts[lowered(n.Address)]
	switch {
	case p.Skip != "":
		n.Status, n.Why = "skip", p.Skip
		return n
	case !known.domains[lowered(p.Address.Domain)]:
		n.Status, n.Why = "refuse", fmt.Sprintf("the domain is not one of this server; martlet domain add %s", p.Address.Domain)
		return n
	case there && !update:
		n.Status = "exists"
		return n
	case there:
		n.Status = "update"
	}
	switch {
	case p.Hash != "":
		h, err := foreign.Parse(p.Hash, memory)
		if err != nil {
			n.Status, n.Why = "refuse", fault.Say(err)
			return n
		}
		if n.Scheme = h.Scheme(); n.Scheme == "PLAIN" {
			n.Why = "the password is in the clear in the list; it is hashed now"
		}
	case p.Password != "":
		n.Scheme, n.Why = "PLAIN", "the password is in the clear in the list; it is hashed now"
	case mayWait:
		n.Waiting = true
	default:
		n.Status, n.Why = "refuse", "the list has no password and no hash for it; --waiting lets it wait for its first login"
	}
	return n
}

// carryOut does it.
func carryOut(ctx context.Context, cl *client, n newcomer) newcomer {
	body := map[string]any{}
	switch {
	case n.person.Hash != "":
		body["hash"] = n.person.Hash
	case n.person.Password != "":
		body["password"] = n.person.Password
	default:
		body["waiting"] = true
	}
	var err error
	switch n.Status {
	case "create":
		body["address"], body["quota_bytes"] = n.Address, n.person.Quota
		n.Status, err = "created", cl.do(ctx, "POST", "/v1/accounts", body, noLine)
	case "update":
		n.Status, err = "updated", cl.do(ctx, "PUT", "/v1/accounts/"+url.PathEscape(n.Address)+"/password", body, noLine)
	default:
		return n
	}
	if err != nil {
		n.Status, n.Why = "failed", describe(err)
	}
	return n
}

func noLine(json.RawMessage) error { return nil }

// newcomerTeller writes the lines of an answer.
type newcomerTeller struct {
	out  io.Writer
	json bool
	t    *table
}

func newcomerLines(cmd *cobra.Command) *newcomerTeller {
	out := cmd.OutOrStdout()
	return &newcomerTeller{out, wantsJSON(cmd), newTable(out, "ADDRESS", "STATUS", "PASSWORD", "WHY")}
}

func (t *newcomerTeller) line(n newcomer) error {
	if t.json {
		return printJSON(t.out, n)
	}
	password := n.Scheme
	if n.Waiting {
		password = "at the first login"
	}
	t.t.row(n.Address, n.Status, orDash(password), n.Why)
	return nil
}

// end tells the sums; it is an error if something could not be done.
func (t *newcomerTeller) end(counts map[string]int, plan bool) error {
	bad := counts["failed"] + counts["refuse"]
	if t.json {
		if err := printJSON(t.out, map[string]any{"summary": counts}); err != nil {
			return err
		}
	} else {
		if err := t.t.end("the list has nobody in it"); err != nil {
			return err
		}
		fmt.Fprintln(t.out)
		for _, status := range []string{"create", "created", "update", "updated", "exists", "skip", "refuse", "failed"} {
			if n := counts[status]; n > 0 {
				fmt.Fprintf(t.out, "%s: %d\n", status, n)
			}
		}
	}
	if bad > 0 {
		if plan {
			return failed("%s could not be made; the list above says why", counted(int64(bad), "account"))
		}
		return failed("%s could not be made; the list above says why. Mend the list and run it again: the others stay", counted(int64(bad), "account"))
	}
	return nil
}
