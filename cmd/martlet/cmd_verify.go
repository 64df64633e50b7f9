package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

func newVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify", Short: "Read the whole store and check everything in it",
		Long: `Reads all files of the store, then the directory, the queue and all accounts, mailboxes, messages and bodies, and
checks every checksum, count and cross-reference. It may run while the server runs. On a terminal it shows how far it
is; elsewhere, and with --json, it writes one JSON object a line: events progress and
problem, and done at the end. Exit code 0 if all is whole, 1 if not.

With --repair, while the server is stopped, a store with damaged files is made anew of all
that can be read, and the records are brought into accord. What is replaced is kept under
quarantine/ in the data folder, with a report that names each message that is lost, and
each range of records that could not be read, with the accounts it belongs to. Exit code 1 if
anything is lost that did not follow from the rest. An account whose address is lost becomes
recovered-NUMBER@recovered.invalid; --give gives it its own, and it keeps its password if it
has one. An address that somebody else has is not given: exit code 2. The repair needs as
much space as the store has, and may be run again after any stop. --plan only shows which
files are damaged. Of a store in a database --repair mends records only, while no node runs:
the files are the database's, which has programs, standbys and backups of its own for them.`,
		Example: `  martlet verify
  martlet verify --json | jq 'select(.event == "problem")'
  martlet verify --repair --plan
  martlet verify --repair --give 5=ann@example.org`,
		Args: arguments(0, 0),
	}
	mend := cmd.Flags().Bool("repair", false, "mend the store; the server must be stopped")
	plan := cmd.Flags().Bool("plan", false, "with --repair: only show what is damaged")
	give := cmd.Flags().StringToString("give", nil, "with --repair: NUMBER=ADDRESS, the address of an account whose own is lost")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *mend:
			return repair(cmd, *plan, *give)
		case *plan, len(*give) > 0:
			return misused("--plan and --give go with --repair")
		}
		return verify(cmd, args)
	}
	return cmd
}

// verifyLine is any line of a verification.
type verifyLine struct {
	Event     string `json:"event"`
	OK        bool   `json:"ok"`
	Accounts  int64  `json:"accounts"`
	Mailboxes int64  `json:"mailboxes"`
	Messages  int64  `json:"messages"`
	Total     int64  `json:"total_messages"`
	Bytes     int64  `json:"bytes"`
	Problems  int64  `json:"problems"`
	Account   string `json:"account"`
	Mailbox   string `json:"mailbox"`
	UID       int64  `json:"uid"`
	QueueID   string `json:"queue_id"`
	File      string `json:"file"`
	What      string `json:"what"`
}

func verify(cmd *cobra.Command, _ []string) error {
	c, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.close()
	out := cmd.OutOrStdout()
	show := func(raw json.RawMessage, _ verifyLine) error { return printJSON(out, raw) }
	if !wantsJSON(cmd) && isTerminal(out) {
		show = newVerifyScreen(out, cmd.ErrOrStderr()).line
	}
	var last verifyLine
	err = c.do(cmd.Context(), "POST", "/v1/verify", nil, func(raw json.RawMessage) error {
		last = verifyLine{}
		if err := json.Unmarshal(raw, &last); err != nil {
			return err
		}
		return show(raw, last)
	})
	switch {
	case err != nil:
		return err
	case last.Event != "done":
		return failed("the verification was cut short; run it again")
	case !last.OK:
		return failed("%s found in the store; stop the server and run: martlet verify --repair --plan; or restore what is damaged from a backup", counted(last.Problems, "problem"))
	}
	return nil
}

// verifyScreen shows a verification to a person.
type verifyScreen struct {
	out io.Writer
	bar *progressbar.ProgressBar
	err io.Writer
}

func newVerifyScreen(out, errOut io.Writer) *verifyScreen {
	return &verifyScreen{out: out, err: errOut}
}

func (s *verifyScreen) line(_ json.RawMessage, l verifyLine) error {
	switch l.Event {
	case "progress":
		if s.bar == nil && isTerminal(s.err) {
			s.bar = progressbar.NewOptions64(max(l.Total, 1), progressbar.OptionSetWriter(s.err),
				progressbar.OptionSetDescription("messages"), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
		}
		if s.bar != nil {
			_ = s.bar.Set64(min(l.Messages, max(l.Total, 1)))
		}
		return nil
	case "problem":
		place := l.Account
		if place == "" && l.QueueID != "" {
			place = "queue, message " + l.QueueID
		} else if place == "" && l.File != "" {
			place = "file " + l.File
		} else if place == "" {
			place = "directory"
		}
		if l.Mailbox != "" {
			place += ", " + l.Mailbox
		}
		if l.UID > 0 {
			place += fmt.Sprintf(", UID %d", l.UID)
		}
		s.clear()
		_, err := fmt.Fprintf(s.out, "%s %s: %s\n", paint(s.out, "31", "problem"), clean(place), clean(l.What))
		return err
	}
	s.clear()
	word := paint(s.out, "32", "all is whole")
	if !l.OK {
		word = paint(s.out, "31", counted(l.Problems, "problem"))
	}
	_, err := fmt.Fprintf(s.out, "%s: %s, %s, %s, %s read\n", word, counted(l.Accounts, "account"),
		counted(l.Mailboxes, "mailbox"), counted(l.Messages, "message"), bytesText(l.Bytes))
	return err
}

func (s *verifyScreen) clear() {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
}
