package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/postgres"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/serve/admin"
	"github.com/martlet-mail/martlet/internal/store"
)

func clusterAddGroupCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "add-group NAME --url URL", Short: "Add a database for accounts and bodies",
		Long: `Adds an empty PostgreSQL database to the cluster. All nodes use it within seconds: new
accounts go to the group with the fewest, and bodies are spread by their names. What is
there already stays where it is; accounts are moved by "martlet cluster move".

A group cannot be removed again. Every node must be able to reach the database by the URL;
a password is better left to a file that PGPASSFILE names, on each node.`,
		Example: `  martlet cluster add-group second --url "postgres://martlet@db3,db4/martlet"
  martlet cluster add-group second --url "postgres://martlet@db3,db4/martlet" --json`,
		Args: arguments(1, 1), RunE: clusterAddGroup,
	}
	c.Flags().String("url", "", "how the database is reached, as in [store] url")
	return c
}

func clusterAddGroup(cmd *cobra.Command, args []string) error {
	at, _ := cmd.Flags().GetString("url")
	if at == "" {
		return misused("add-group needs --url URL, the address of an empty database")
	}
	if what := conf.WrongDatabase(at); what != "" {
		return misused("the address of --url %s", what)
	}
	cl, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer cl.close()
	return cl.do(cmd.Context(), "POST", "/v1/groups", map[string]string{"name": args[0], "url": at}, func(line json.RawMessage) error {
		if wantsJSON(cmd) {
			return printJSON(cmd.OutOrStdout(), line)
		}
		var g admin.Group
		if err := json.Unmarshal(line, &g); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "group %s is number %d of the cluster\n", clean(g.Name), g.Number)
		return err
	})
}

func clusterGroupsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "groups", Short: "List the databases of the cluster",
		Long: `Lists the databases with the number of accounts that have their place in each. With --full
a group takes no new accounts from now on, with --open it does again; where all are full,
all do.`,
		Example: `  martlet cluster groups
  martlet cluster groups --full home
  martlet cluster groups --json | jq -r 'select(.down) | .name'`,
		Args: arguments(0, 0), RunE: clusterGroups,
	}
	c.Flags().String("full", "", "name of a group that is to take no more new accounts")
	c.Flags().String("open", "", "name of a group that is to take new accounts again")
	c.MarkFlagsMutuallyExclusive("full", "open")
	return c
}

func clusterGroups(cmd *cobra.Command, _ []string) error {
	for flag, full := range map[string]bool{"full": true, "open": false} {
		if name, _ := cmd.Flags().GetString(flag); name != "" {
			return markGroup(cmd, name, full)
		}
	}
	var down []string
	t := newTable(cmd.OutOrStdout(), "NUMBER", "NAME", "ACCOUNTS", "SIZE", "STATE", "URL")
	return list(cmd, "/v1/groups", func(line json.RawMessage) error {
		var g admin.Group
		if err := json.Unmarshal(line, &g); err != nil {
			return err
		}
		state := "open"
		if g.Full {
			state = "full"
		}
		if g.Down != "" {
			state = "down"
			down = append(down, fmt.Sprintf("group %s is down: %s", clean(g.Name), clean(oneLine(g.Down))))
		}
		t.row(g.Number, g.Name, g.Accounts, bytesText(g.Bytes), state, orDash(g.URL))
		return nil
	}, func() error {
		err := t.end("")
		for _, line := range down {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
		return err
	})
}

func markGroup(cmd *cobra.Command, name string, full bool) error {
	cl, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer cl.close()
	return cl.do(cmd.Context(), "PUT", "/v1/groups/"+url.PathEscape(name), map[string]bool{"full": full}, func(line json.RawMessage) error {
		if wantsJSON(cmd) {
			return printJSON(cmd.OutOrStdout(), line)
		}
		what := "takes new accounts"
		if full {
			what = "takes no new accounts"
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "group %s %s\n", clean(name), what)
		return err
	})
}

func clusterMoveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "move ADDRESS --to GROUP", Short: "Move an account to another database while it is in use",
		Long: `Moves an account to another group. Its sessions stay: they can read all the time, and
changes and deliveries wait for some hundredths of a second at the end, when the account is
frozen. Everything is compared by content before the account's place is changed.

If the command or a node ends meanwhile, another node goes on with the move within seconds;
"martlet cluster moves" tells of such. Until the place is changed, --abort undoes it all.`,
		Example: `  martlet cluster move carol@example.org --to second
  martlet cluster move carol@example.org --to second --dry-run
  martlet cluster move carol@example.org --abort`,
		Args: arguments(1, 1), RunE: clusterMove,
	}
	c.Flags().String("to", "", "name of the group")
	c.Flags().Bool("dry-run", false, "tell from where to where, and how much there is, and move nothing")
	c.Flags().Bool("abort", false, "undo a move that is not done")
	c.MarkFlagsMutuallyExclusive("to", "abort")
	c.MarkFlagsMutuallyExclusive("dry-run", "abort")
	return c
}

func clusterMove(cmd *cobra.Command, args []string) error {
	to, _ := cmd.Flags().GetString("to")
	dry, _ := cmd.Flags().GetBool("dry-run")
	abort, _ := cmd.Flags().GetBool("abort")
	action := "move"
	switch {
	case abort:
		action = "abort"
	case to == "":
		return misused("move needs --to GROUP; see martlet cluster groups")
	case dry:
		action = "plan"
	}
	cl, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer cl.close()
	show := &groupMoveShow{out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), json: wantsJSON(cmd)}
	defer show.clear()
	var last admin.GroupMove
	err = cl.do(cmd.Context(), "POST", accountPath(args[0])+"/group/"+action, map[string]string{"to": to}, func(line json.RawMessage) error {
		if err := json.Unmarshal(line, &last); err != nil {
			return err
		}
		return show.progress(last)
	})
	if err != nil {
		return err
	}
	show.clear()
	return show.end(action, last)
}

// groupMoveShow tells of a move while it goes on: a bar on a terminal, lines with --json.
type groupMoveShow struct {
	out, err io.Writer
	json     bool
	bar      *progressbar.ProgressBar
	step     string
	last     time.Time
	held     *admin.GroupMove // that was not told, as another was a moment ago
}

func (s *groupMoveShow) progress(m admin.GroupMove) error {
	if s.json {
		return s.line(m)
	}
	if m.Step == "plan" || m.Step == "done" || !isTerminal(s.err) {
		return nil
	}
	if m.Step != s.step {
		s.clear()
		s.step = m.Step
		s.bar = progressbar.NewOptions64(max(m.KeysTotal, 1), progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription(fmt.Sprintf("%-7s", m.Step)),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(true), progressbar.OptionShowCount(), progressbar.OptionSetWidth(24), progressbar.OptionThrottle(100*time.Millisecond))
	}
	return s.bar.Set64(min(m.Keys, max(m.KeysTotal, 1)))
}

// line tells the first and the last of each step, and one each second.
func (s *groupMoveShow) line(m admin.GroupMove) error {
	now := time.Now()
	if m.Step == s.step && now.Sub(s.last) < time.Second {
		s.held = &m
		return nil
	}
	if s.held != nil && m.Step != s.step {
		if err := printJSON(s.out, s.held); err != nil {
			return err
		}
	}
	s.step, s.last, s.held = m.Step, now, nil
	return printJSON(s.out, m)
}

func (s *groupMoveShow) clear() {
	if s.bar != nil {
		_ = s.bar.Clear() // of what is only to be looked at
		s.bar = nil
	}
}

func (s *groupMoveShow) end(action string, m admin.GroupMove) error {
	if s.json {
		return nil
	}
	who, err := clean(m.Address), error(nil)
	switch {
	case action == "abort":
		_, err = fmt.Fprintf(s.out, "the move of %s is undone\n", who)
	case action == "plan" && m.From == "":
		_, err = fmt.Fprintf(s.out, "%s has no mail yet; it would get its place in group %s at once\n", who, clean(m.To))
	case action == "plan" && m.From == m.To:
		_, err = fmt.Fprintf(s.out, "%s is in group %s already\n", who, clean(m.To))
	case action == "plan":
		_, err = fmt.Fprintf(s.out, "%s would be moved from group %s to group %s: %s, %s\n", who, clean(m.From), clean(m.To), counted(m.KeysTotal, "record"), bytesText(m.BytesTotal))
	case m.From == "":
		_, err = fmt.Fprintf(s.out, "%s has no mail yet, and has its place in group %s now\n", who, clean(m.To))
	case m.From == m.To:
		_, err = fmt.Fprintf(s.out, "%s is in group %s already\n", who, clean(m.To))
	default:
		_, err = fmt.Fprintf(s.out, "%s has been moved from group %s to group %s: %s, %s; changes waited for %.0f ms\n", who, clean(m.From), clean(m.To), counted(m.KeysTotal, "record"), bytesText(m.BytesTotal), m.FrozenMS)
	}
	return err
}

func clusterMovesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "moves", Short: "List the moves of accounts that are not done",
		Long: `Lists the accounts that are being moved. If no node is at a move for some seconds, because
its node has gone, another goes on with it by itself.`,
		Example: "  martlet cluster moves\n  martlet cluster moves --json",
		Args:    arguments(0, 0), RunE: clusterMoves,
	}
}

func clusterMoves(cmd *cobra.Command, _ []string) error {
	t := newTable(cmd.OutOrStdout(), "ACCOUNT", "FROM", "TO", "STEP")
	return list(cmd, "/v1/moves", func(line json.RawMessage) error {
		var m admin.GroupMove
		if err := json.Unmarshal(line, &m); err != nil {
			return err
		}
		who := m.Address
		if who == "" {
			who = fmt.Sprintf("number %d", m.ID)
		}
		t.row(who, m.From, m.To, m.Step)
		return nil
	}, func() error { return t.end("no account is being moved") })
}

// groupsOf is the engine's groups as the admin handler has them; nil: it has none.
func groupsOf(e engine.Engine) admin.Groups {
	if p, ok := e.(*postgres.Engine); ok {
		return databases{p}
	}
	return nil
}

// databases are the groups of an engine on PostgreSQL.
type databases struct{ e *postgres.Engine }

func (d databases) Groups(ctx context.Context) (list []admin.Group, err error) {
	all, err := d.e.Groups(ctx)
	for _, g := range all {
		list = append(list, groupLine(g))
	}
	return list, err
}

func groupLine(g postgres.Group) admin.Group {
	return admin.Group{Number: g.Number, Name: g.Name, URL: g.URL, Full: g.Full, Accounts: g.Accounts, Bytes: g.Size, Down: g.Down}
}

func (d databases) AddGroup(ctx context.Context, name, url string) (admin.Group, error) {
	g, err := d.e.AddGroup(ctx, name, url)
	return groupLine(g), err
}

func (d databases) SetFull(ctx context.Context, name string, full bool) error {
	return d.e.SetFull(ctx, name, full)
}

func moveLine(m postgres.MoveProgress) admin.GroupMove {
	return admin.GroupMove{
		ID: mail.AccountID(m.Shard - store.ShardOf(0)), From: m.Source, To: m.Target, Step: m.Step,
		Keys: m.Keys, KeysTotal: m.KeysTotal, Bytes: m.Bytes, BytesTotal: m.BytesTotal,
		Journal: m.Journal, Compared: m.Compared, FrozenMS: float64(m.Frozen.Microseconds()) / 1000,
	}
}

func (d databases) Move(ctx context.Context, id mail.AccountID, group string, tell func(admin.GroupMove)) error {
	return d.e.Move(ctx, store.ShardOf(id), group, func(m postgres.MoveProgress) { tell(moveLine(m)) })
}

func (d databases) PlanMove(ctx context.Context, id mail.AccountID, group string) (admin.GroupMove, error) {
	m, err := d.e.PlanMove(ctx, store.ShardOf(id), group)
	return moveLine(m), err
}

func (d databases) AbortMove(ctx context.Context, id mail.AccountID) error {
	return d.e.AbortMove(ctx, store.ShardOf(id))
}

func (d databases) Moves(ctx context.Context) (list []admin.GroupMove, err error) {
	all, err := d.e.Moves(ctx)
	for _, m := range all {
		list = append(list, moveLine(m))
	}
	return list, err
}
