package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func newRestoreCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "restore DIR", Short: "Bring back everything, an account or a mailbox from a backup",
		Long: `Brings back what a backup in DIR has, as of its newest snapshot or, with --at, of the newest
one not after a time.

--whole brings everything back into a data folder that is empty; no server may run.

--account ADDRESS brings one account back, while the server runs or while it does not. An
account that is gone is made again as it was: with its password, mailboxes, UIDs and all
else. One that is there gets the messages that it does not have any more, in mailboxes below
"Restored <date>", or with --merge in the mailboxes that they lay in. --mailbox NAME does so
with one mailbox only, into itself or, with --to, into another. A message counts as
there if any mailbox holds it but those of thrown away and deleted mail. Nothing that is
there is changed or removed, and to run it twice makes no message twice.

--plan shows what would be done and changes nothing.`,
		Example: `  martlet restore /backup/mail --account carol@example.org --plan
  martlet restore /backup/mail --account carol@example.org --merge
  martlet restore /backup/mail --at 2026-03-01T12:00 --account carol@example.org --mailbox INBOX --to Found
  martlet restore /backup/mail --whole --config /etc/martlet/martlet.toml`,
		Args: arguments(1, 1), RunE: restore,
	}
	c.Flags().String("at", "", "as of a time, or so long ago: 2026-03-01, 2026-03-01T12:30, 90m, 7d (default: the newest snapshot)")
	c.Flags().Bool("whole", false, "everything, into an empty data folder")
	c.Flags().String("account", "", "one account, by its address")
	c.Flags().String("mailbox", "", "only this mailbox of the account")
	c.Flags().String("to", "", "the mailbox that messages of --mailbox go to")
	c.Flags().Bool("merge", false, "put messages into the mailboxes that they lay in")
	c.Flags().Bool("plan", false, "show what would be done, and change nothing")
	c.Flags().SortFlags = false
	return c
}

// restoreRequest is what the command line asks for.
type restoreRequest struct {
	Dir     string    `json:"dir"`
	At      time.Time `json:"at"`
	Account string    `json:"account"`
	Mailbox string    `json:"mailbox"`
	To      string    `json:"to"`
	Merge   bool      `json:"merge"`
	Plan    bool      `json:"plan"`
	whole   bool
}

func readRestore(cmd *cobra.Command, args []string, now time.Time) (r restoreRequest, err error) {
	f := cmd.Flags()
	r.whole, _ = f.GetBool("whole")
	r.Account, _ = f.GetString("account")
	r.Mailbox, _ = f.GetString("mailbox")
	r.To, _ = f.GetString("to")
	r.Merge, _ = f.GetBool("merge")
	r.Plan, _ = f.GetBool("plan")
	switch {
	case r.whole && r.Account != "":
		return r, misused("--whole or --account, not both")
	case r.whole == (r.Account != ""):
		return r, misused("say what to restore: --whole, or --account ADDRESS")
	case r.whole && (r.Mailbox != "" || r.To != "" || r.Merge):
		return r, misused("--mailbox, --to and --merge are for --account")
	case r.To != "" && r.Mailbox == "":
		return r, misused("--to needs --mailbox")
	}
	if at, _ := f.GetString("at"); at != "" {
		if r.At, err = sinceTime(at, now); err != nil {
			return r, misused("--at %q is no time such as 2026-03-01, 2026-03-01T12:30 or 2d", at)
		}
		if r.At.Nanosecond() == 0 { // lists show whole seconds
			r.At = r.At.Add(time.Second - time.Millisecond)
		}
	}
	r.Dir, err = backupDir(args[0])
	return r, err
}

func restore(cmd *cobra.Command, args []string) error {
	r, err := readRestore(cmd, args, time.Now())
	if err != nil {
		return err
	}
	if r.whole {
		return restoreWhole(cmd, r)
	}
	c, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.close()
	last, err := c.stream(cmd, "/v1/restore", r)
	if err != nil {
		return err
	}
	return r.tell(cmd, last)
}

// tell says how it went.
func (r *restoreRequest) tell(cmd *cobra.Command, l backupLine) error {
	if !wantsJSON(cmd) {
		word := "brought back"
		if r.Plan {
			word = "would be brought back"
		}
		made := ""
		if l.Accounts > 0 {
			made = counted(l.Accounts, "account") + " and "
		}
		there := ""
		if !r.whole && l.Accounts == 0 {
			there = fmt.Sprintf(", %d there already", l.Present)
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s%s %s as of %s%s\n", made, counted(l.Messages, "message"), word, localTime(l.Time), there); err != nil {
			return err
		}
	}
	if l.Failed > 0 {
		return failed("not all could be brought back: %s of the backup; see: martlet backup verify %s, and try an earlier snapshot with --at", counted(l.Failed, "problem"), r.Dir)
	}
	return nil
}
