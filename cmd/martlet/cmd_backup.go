package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/backup"
)

func newBackupCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "backup DIR", Short: "Keep the state of everything as of now in a folder",
		Long: `Usage: martlet backup DIR [--full]

Adds a snapshot of all mail, the queue, accounts and passwords to the backup in DIR, which
is made if it is not there. It works while the server runs and while it does not: all
that was acknowledged before it began is in the snapshot. What the backup has already is
not stored again, and accounts that have not changed are not read again, so run it as often
as you like. It may be stopped at any moment: earlier snapshots stay whole, and the next run
goes on. DIR should be on another disk, or be copied to another machine: copy all of it,
with the folder "snapshots" last. It holds mail and password hashes in the clear.

With --full nothing that lies in DIR is trusted: everything is read and checked, and
what is damaged is stored again.

A running server writes as its own user, who must be allowed to write in DIR.`,
		Example: `  martlet backup /backup/mail
  martlet backup /backup/mail --full --json
  martlet backup list /backup/mail
  martlet backup verify /backup/mail`,
		Args: arguments(1, 1), RunE: makeBackup,
	}
	c.Flags().Bool("full", false, "read and check everything again")
	c.AddCommand(newBackupListCommand(), newBackupVerifyCommand(), newBackupPruneCommand())
	return c
}

func newBackupListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list DIR", Short: "List the snapshots of a backup",
		Example: `  martlet backup list /backup/mail
  martlet backup list /backup/mail --json | jq -r .time`,
		Args: arguments(1, 1), RunE: listBackup,
	}
}

func newBackupVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify DIR", Short: "Read a whole backup and check everything in it",
		Long: `Reads every byte of the backup, checks each checksum, and looks whether all is there that
each snapshot needs. It needs no server. With --json it writes one JSON object a line: events
progress and problem, and done at the end. Exit code 0 if all is whole, 1 if not. Run by
root, it works as the user whose folder DIR is.`,
		Example: `  martlet backup verify /backup/mail
  martlet backup verify /backup/mail --json | jq 'select(.event == "problem")'`,
		Args: arguments(1, 1), RunE: verifyBackup,
	}
}

func newBackupPruneCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "prune DIR", Short: "Remove old snapshots and what only they need",
		Long: `Removes the snapshots that neither --keep-last nor --keep-days keeps, and then what no
snapshot needs any more. The newest one always stays. --plan shows which would go. Run by
root, it works as the user whose folder DIR is.`,
		Example: `  martlet backup prune /backup/mail --keep-last 30
  martlet backup prune /backup/mail --keep-days 90 --plan
  martlet backup prune /backup/mail --keep-last 7 --keep-days 30`,
		Args: arguments(1, 1), RunE: pruneBackup,
	}
	c.Flags().Int("keep-last", 0, "keep so many of the newest snapshots")
	c.Flags().Int("keep-days", 0, "keep the snapshots of so many days")
	c.Flags().Bool("plan", false, "show what would be removed, and remove nothing")
	c.Flags().SortFlags = false
	return c
}

// backupLine is any line of a backup or restore, and of looking at one.
type backupLine struct {
	Event     string    `json:"event"`
	Step      string    `json:"step"`
	Done      int64     `json:"done"`
	Total     int64     `json:"total"`
	Time      time.Time `json:"time"`
	Accounts  int64     `json:"accounts"`
	Unchanged int64     `json:"unchanged_accounts"`
	Messages  int64     `json:"messages"`
	Queued    int64     `json:"queued"`
	NewBytes  int64     `json:"new_bytes"`
	Bytes     int64     `json:"bytes"`
	Lost      int64     `json:"lost"`
	Mailbox   string    `json:"mailbox"`
	To        string    `json:"to"`
	Missing   int64     `json:"missing"`
	Present   int64     `json:"present"`
	Failed    int64     `json:"failed"`
	Mailboxes int64     `json:"mailboxes"`
	What      string    `json:"what"`
}

// backupDir returns the folder that a command names, as every process understands it.
func backupDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", failed("cannot tell where %s is: %v", dir, err)
	}
	return abs, nil
}

func makeBackup(cmd *cobra.Command, args []string) error {
	dir, err := backupDir(args[0])
	if err != nil {
		return err
	}
	full, _ := cmd.Flags().GetBool("full")
	c, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.close()
	last, err := c.stream(cmd, "/v1/backup", map[string]any{"dir": dir, "full": full})
	switch {
	case err != nil:
		return err
	case !wantsJSON(cmd):
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "snapshot %s: %s, %s, %s in the queue; %s new (%s)\n", localTime(last.Time), counted(last.Accounts, "account"),
			counted(last.Messages, "message"), counted(last.Queued, "message"), bytesText(last.NewBytes), unchanged(last))
	}
	if err == nil && last.Lost > 0 {
		return failed("the snapshot is there, but the store has lost or damaged %s of it; run: martlet verify", counted(last.Lost, "part"))
	}
	return err
}

func unchanged(l backupLine) string {
	if l.Unchanged == 1 {
		return "1 account had not changed"
	}
	return fmt.Sprintf("%d accounts had not changed", l.Unchanged)
}

// snapTimeForm is how a snapshot's time is written for people and taken by --at.
const snapTimeForm = "2006-01-02 15:04:05"

func localTime(t time.Time) string { return t.Local().Format(snapTimeForm) }

// stream sends a request whose answer is lines of which the last has event done, and shows
// them.
func (c *client) stream(cmd *cobra.Command, path string, in any) (last backupLine, err error) {
	s := newStepScreen(cmd)
	defer s.clear()
	err = c.do(cmd.Context(), "POST", path, in, func(raw json.RawMessage) error {
		last = backupLine{}
		if err := json.Unmarshal(raw, &last); err != nil {
			return err
		}
		return s.line(raw, last)
	})
	if err == nil && last.Event != "done" {
		err = failed("the answer was cut short; run the command again: it goes on where it stopped")
	}
	return last, err
}

// stepScreen shows the lines of something that takes long: as they are with --json, else
// progress as a bar on a terminal, and problems.
type stepScreen struct {
	json bool
	out  io.Writer
	err  io.Writer
	bar  *progressbar.ProgressBar
	step string
}

func newStepScreen(cmd *cobra.Command) *stepScreen {
	return &stepScreen{json: wantsJSON(cmd), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
}

func (s *stepScreen) line(raw any, l backupLine) error {
	if s.json {
		return printJSON(s.out, raw)
	}
	switch l.Event {
	case "progress":
		s.progress(l)
	case "problem":
		s.clear()
		_, err := fmt.Fprintf(s.out, "%s: %s\n", paint(s.out, "31", "problem"), clean(l.What))
		return err
	case "mailbox":
		s.clear()
		if l.Missing > 0 {
			_, err := fmt.Fprintf(s.out, "%s -> %s: %s\n", clean(l.Mailbox), clean(l.To), counted(l.Missing, "message"))
			return err
		}
	}
	return nil
}

func (s *stepScreen) progress(l backupLine) {
	if !isTerminal(s.err) {
		return
	}
	if s.bar == nil || s.step != l.Step {
		s.clear()
		s.step = l.Step
		s.bar = progressbar.NewOptions64(max(l.Total, 1), progressbar.OptionSetWriter(s.err),
			progressbar.OptionSetDescription(l.Step), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	}
	_ = s.bar.Set64(min(l.Done, max(l.Total, 1)))
}

func (s *stepScreen) clear() {
	if s.bar != nil {
		_ = s.bar.Clear()
		s.bar = nil
	}
}

// snapshotLine is one snapshot of a list.
type snapshotLine struct {
	Time     time.Time `json:"time"`
	Version  string    `json:"version"` // of the program that made it
	Full     bool      `json:"full"`
	Accounts int       `json:"accounts"`
	Messages int64     `json:"messages"`
	Queued   int64     `json:"queued"`
	NewBytes int64     `json:"new_bytes"`
	Lost     int       `json:"lost"`
}

func listBackup(cmd *cobra.Command, args []string) error {
	list, bad, err := backup.List(backupDisk, args[0])
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	t := newTable(out, "TIME", "ACCOUNTS", "MESSAGES", "QUEUED", "NEW")
	for _, s := range list {
		if !wantsJSON(cmd) {
			t.row(localTime(s.Time), s.Accounts, s.Messages, s.Queued, bytesText(s.Bytes))
			continue
		}
		if err := printJSON(out, snapshotLine{s.Time, s.Version, s.Full, s.Accounts, s.Messages, s.Queued, s.Bytes, s.Lost}); err != nil {
			return err
		}
	}
	if !wantsJSON(cmd) {
		if err := t.end("there is no snapshot yet"); err != nil {
			return err
		}
	}
	if len(bad) > 0 {
		return failed("%s: %s; run: martlet backup verify %s", bad[0].File, bad[0].What, args[0])
	}
	return nil
}
