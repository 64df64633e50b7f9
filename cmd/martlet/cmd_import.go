package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/pop3source"
	moveremote "github.com/martlet-mail/martlet/internal/move/remote"
	"github.com/martlet-mail/martlet/internal/serve/admin"
	"github.com/martlet-mail/martlet/internal/store"
)

// importSource is a kind of source that mail is imported from: a row of importSources.
type importSource struct {
	use, short string // as of a command: "mbox PATH"
	long       string // what is particular to it
	example    string
	args       cobra.PositionalArgs
	flags      func(*pflag.FlagSet) // nil: none of its own
	// open checks arguments and flags and reads what is read once, such as a password. The
	// opener that it returns is called again when a connection was lost.
	open func(cmd *cobra.Command, args []string) (opener, error)
	// after is called when all has been brought and proven; nil: there is nothing to be done.
	after func(ctx context.Context, run *importRun) error
}

// opener opens a source. tell may be told what is waited for, "" when it goes on.
type opener func(ctx context.Context, tell func(string)) (move.Source, error)

const importLong = `Brings mail from elsewhere into an account, with mailboxes, flags, keywords and dates. It
shows the plan first and asks; off a terminal, or with --yes, it begins at once. It may be
stopped at any moment: run again it goes on where it was, and brings no message twice,
even after a crash. What was deleted here after it came does not come again (see
martlet import forget). Nothing is changed at the source.

At the end every message is read out of the store and compared with what was read at
the source. Exit code 1 if anything differs or could not be brought.`

func newImportCommand() *cobra.Command {
	var children []*cobra.Command
	for _, s := range importSources() {
		children = append(children, importCommand(exported(s)))
	}
	return family("import", "Bring mail from elsewhere into an account", importLong, append(children, newImportDomainCommand(), newImportSourcesCommand(), newImportForgetCommand())...)
}

func importCommand(s importSource) *cobra.Command {
	c := &cobra.Command{
		Use: s.use, Short: s.short, Long: strings.TrimSpace(s.long + "\n\n" + importLong), Example: s.example, Args: s.args,
		RunE: func(cmd *cobra.Command, args []string) error { return runImport(cmd, args, &s) },
	}
	f := c.Flags()
	f.SortFlags = false
	if s.flags != nil {
		s.flags(f)
	}
	f.String("to", "", "account that the mail goes to (needed)")
	f.Bool("plan", false, "show what would be done, and change nothing")
	f.Bool("yes", false, "do not ask")
	choiceFlags(f)
	f.String("report", "", "write the proof to this file: a line of JSON for each mailbox and difference, and FILE.txt")
	f.Bool("verify", false, "bring nothing: read every message at the source again and compare")
	f.Bool("no-proof", false, "do not read back what was brought")
	followFlags(f)
	return c
}

// choiceFlags are those that importChoice reads.
func choiceFlags(f *pflag.FlagSet) {
	f.StringArray("mailbox", nil, "only mailboxes of this name, there or here; * is anything")
	f.StringArray("exclude", nil, "not mailboxes of this name")
	f.String("since", "", "only messages of this day or later: 2026-03-01, 90d")
	f.String("before", "", "only messages of before this day")
	f.String("max-size", "", "only messages of at most this size: 25MB")
	f.StringArray("map", nil, "THERE=HERE: put a mailbox into another one than its name says")
	f.Bool("keep-names", false, "keep the names of mailboxes with a role: Sent Items does not go into Sent")
	f.Bool("skip-duplicates", false, "of messages with the same Message-ID and size bring only the first")
	f.String("order", "auto", "auto, source or newest first")
	f.String("rate", "", "read at most so many bytes a second: 2MB")
	f.Float64("messages-per-second", 0, "read at most so many messages a second")
}

// importRun is an import of the command line.
type importRun struct {
	cmd    *cobra.Command
	to     string
	client *client
	target *moveremote.Target
	opt    move.Options
	show   *importShow
}

func runImport(cmd *cobra.Command, args []string, s *importSource) error {
	run, err := beginImport(cmd, args, s)
	if err != nil {
		return err
	}
	defer run.client.close()
	ctx, flags := cmd.Context(), cmd.Flags()
	if verify, _ := flags.GetBool("verify"); verify {
		return run.stopped(run.verify(ctx))
	}
	only, _ := flags.GetBool("plan")
	yes, _ := flags.GetBool("yes")
	asks := !yes && isTerminal(cmd.InOrStdin()) && isTerminal(cmd.ErrOrStderr())
	if only || asks {
		opt := run.opt
		opt.Tell = run.show.planning
		plan, err := move.MakePlan(ctx, opt)
		run.show.clear()
		if err != nil {
			return run.stopped(err)
		}
		if err := showPlan(cmd, plan); err != nil || only {
			return err
		}
		if err := confirmed(cmd, "Bring them to "+run.to+"?"); err != nil {
			return err
		}
	}
	err = run.bring(ctx)
	if err == nil && s.after != nil {
		err = s.after(ctx, run)
	}
	if on, _ := flags.GetBool("follow"); on && err == nil {
		return run.follow(ctx)
	}
	return run.stopped(err)
}

// beginImport reads the flags and finds the account.
func beginImport(cmd *cobra.Command, args []string, s *importSource) (*importRun, error) {
	choice, err := importChoice(cmd.Flags(), time.Now())
	if err != nil {
		return nil, err
	}
	run := &importRun{cmd: cmd, show: newImportShow(cmd)}
	if run.to, _ = cmd.Flags().GetString("to"); run.to == "" {
		return nil, misused("--to is missing: the account that the mail goes to")
	}
	open, err := s.open(cmd, args)
	if err != nil {
		return nil, err
	}
	if run.client, err = connect(cmd, false); err != nil {
		return nil, err
	}
	run.target = run.client.account(run.to, run.show.waits)
	if _, err := run.target.MaxMessage(cmd.Context()); err != nil {
		run.client.close()
		if fault.Is(err, fault.NotFound) {
			return nil, failed("%s; make it first: martlet account add %s", describe(err), run.to)
		}
		return nil, err
	}
	run.opt = move.Options{
		Open: func(ctx context.Context) (move.Source, error) {
			src, err := open(ctx, run.show.waits)
			if pop, is := src.(*pop3source.Source); is {
				pop.Know(run.target)
			}
			return src, err
		},
		Target: run.target, Choice: choice, Now: time.Now, Wait: importWait,
		Spool: func() (store.SpoolFile, error) { return tempFile() }, Tell: run.show.event,
	}
	return run, nil
}

// account returns an account as mail is brought into it.
func (c *client) account(address string, tell func(string)) *moveremote.Target {
	return moveremote.New(moveremote.Options{
		HTTP: c.http, Path: accountPath(address), Line: func(b []byte) error { return streamError(b) }, Wait: importWait, Tell: tell,
		Failure: func(status int, answer []byte) error {
			var a admin.Failure
			if err := json.Unmarshal(answer, &a); err != nil || a.Error == "" {
				return failed("the server answered %d %s", status, http.StatusText(status))
			}
			return a.Fault()
		},
	})
}

// importWait waits, or fails when the context ends.
func importWait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// tempFile returns a file that is gone once it is closed.
func tempFile() (*os.File, error) {
	f, err := os.CreateTemp("", "martlet-import-*")
	if err == nil {
		os.Remove(f.Name())
	}
	return f, err
}

// stopped says how to go on, if that is what is to be said.
func (run *importRun) stopped(err error) error {
	run.show.clear()
	if err != nil && run.cmd.Context().Err() != nil {
		return failed("stopped; what has come is safe. Run the same command again, and it goes on")
	}
	if errors.Is(err, move.ErrAccountGone) {
		return failed("the account %s was removed meanwhile, and with it what had come", run.to)
	}
	var f *failure
	if err == nil || errors.As(err, &f) || !run.show.begun {
		return err
	}
	return failed("%s. What has come is safe; run the same command again, and it goes on", strings.TrimSuffix(describe(err), "."))
}

// importChoice reads what is to be brought.
func importChoice(f *pflag.FlagSet, now time.Time) (c move.Choice, err error) {
	c.Mailboxes, _ = f.GetStringArray("mailbox")
	c.Exclude, _ = f.GetStringArray("exclude")
	c.KeepNames, _ = f.GetBool("keep-names")
	c.SkipDuplicates, _ = f.GetBool("skip-duplicates")
	c.Order, _ = f.GetString("order")
	c.Messages, _ = f.GetFloat64("messages-per-second")
	for name, to := range map[string]*time.Time{"since": &c.Since, "before": &c.Before} {
		if text, _ := f.GetString(name); text != "" {
			if *to, err = dayOf("--"+name, text, now); err != nil {
				return c, err
			}
		}
	}
	for name, to := range map[string]*int64{"max-size": &c.MaxSize, "rate": &c.Bytes} {
		if text, _ := f.GetString(name); text != "" {
			if *to, err = importSize("--"+name, text); err != nil {
				return c, err
			}
		}
	}
	maps, _ := f.GetStringArray("map")
	for _, m := range maps {
		there, here, ok := strings.Cut(m, "=")
		if !ok || there == "" || here == "" {
			return c, misused("--map %q is not of the form THERE=HERE, such as \"Sent Items=Sent\"", m)
		}
		if c.Map == nil {
			c.Map = map[string]string{}
		}
		c.Map[there] = here
	}
	if err := c.Check(); err != nil {
		return c, misused("%s", fault.Say(err))
	}
	return c, nil
}

// dayOf reads a day or time, or how long ago that was.
func dayOf(flag, text string, now time.Time) (time.Time, error) {
	at, err := sinceTime(text, now)
	if err != nil {
		return at, misused("%s %q is no day such as 2026-03-01 or 90d", flag, text)
	}
	return at, nil
}

func importSize(flag, text string) (int64, error) {
	var size conf.Size
	if err := size.UnmarshalText([]byte(text)); err != nil || size <= 0 {
		return 0, misused("%s %q is no size such as 25MB", flag, text)
	}
	return int64(size), nil
}

func newImportSourcesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "sources ADDRESS", Short: "List what was imported into an account",
		Example: "  martlet import sources carol@example.org\n  martlet import sources carol@example.org --json",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t := newTable(cmd.OutOrStdout(), "SOURCE", "THERE", "HERE")
			return list(cmd, accountPath(args[0])+"/move/sources", func(line json.RawMessage) error {
				var b moveremote.Brought
				if err := json.Unmarshal(line, &b); err != nil {
					return err
				}
				t.row(b.From, b.Of, orDash(b.At))
				return nil
			}, func() error { return t.end("nothing was imported into it") })
		},
	}
}

func newImportForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "forget ADDRESS SOURCE [MAILBOX]", Short: "Forget what was imported from a source",
		Long: `Forgets which messages of a source, or of one mailbox there, came into an account. They
stay; but the next import from there brings all of them again. The names are those that
martlet import sources lists.`,
		Example: `  martlet import forget carol@example.org imap:carol@imap.example.net:993
  martlet import forget carol@example.org imap:carol@imap.example.net:993 "Sent Items"`,
		Args: arguments(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := connect(cmd, false)
			if err != nil {
				return err
			}
			defer c.close()
			box := ""
			if len(args) > 2 {
				box = args[2]
			}
			if err := c.account(args[0], nil).Forget(cmd.Context(), args[1], box); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), map[string]string{"source": args[1], "mailbox": box, "forgotten": "yes"})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "forgotten")
			return err
		},
	}
}
