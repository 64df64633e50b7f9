package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/account"
	"github.com/martlet-mail/martlet/internal/move/outward"
)

const exportLong = `
The export may be stopped at any moment and be run again: it goes on where it was, makes no
message twice, adds what is new and changes flags that have changed. What was expunged in
the account since stays in the folder. At the end everything is read back and compared
with the account, by hashes of the content (--no-proof leaves that out).

The folder holds martlet-export.json, which names the mailboxes with their roles,
subscriptions and UIDVALIDITY, and for each mailbox an index in JSON lines with flags,
keywords, dates, UIDs and hashes. "martlet import" of the folder gives the identical
account. Files are for their owner only (0600).`

func newExportCommand() *cobra.Command {
	c := family("export", "Take all mail of an account out", `Takes all mail of an account out: to files that any program reads, or to any IMAP
server. Nothing in the account is changed. It works while the server runs and while it
does not.`,
		newExportFolderCommand(outward.Mbox, "Write an account as mbox files", `Writes an mbox file for each mailbox, in a tree of folders. Flags, keywords and UIDs are in
the fields Status, X-Status, X-Keywords and X-UID, as Dovecot and UW-IMAP write them; the
From_ line has the internal date in UTC.`),
		newExportFolderCommand(outward.Maildir, "Write an account as Maildir++", `Writes a Maildir++ that Dovecot reads as it is: flags in the names, dovecot-keywords,
dovecot-uidlist with the UIDs and UIDVALIDITY, subscriptions, and the internal date as the
time of each file.`),
		newExportFolderCommand(outward.EML, "Write an account as a file for each message", `Writes each message byte for byte into a file of its own, NUMBER.eml in a folder for each
mailbox, with an index beside them.`),
		newExportIMAPCommand(),
	)
	return c
}

func newExportFolderCommand(form outward.Form, short, what string) *cobra.Command {
	name := string(form)
	c := &cobra.Command{
		Use: name + " --account ADDRESS --out DIR", Short: short, Long: what + "\n" + exportLong,
		Example: fmt.Sprintf(`  martlet export %[1]s --account carol@example.org --out /backup/carol
  martlet export %[1]s --account carol@example.org --out carol --mailbox INBOX --mailbox 'Archive/*'
  martlet export %[1]s --account carol@example.org --out carol --since 2026-01-01 --json`, name),
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return exportFolder(cmd, form) },
	}
	c.Flags().String("account", "", "address of the account")
	c.Flags().String("out", "", "folder to write to; made if it is not there, else empty or of an earlier export of the same")
	exportFlags(c)
	if form == outward.Mbox {
		c.Flags().String("quoting", string(outward.QuoteRD), `how lines that begin with "From " are kept apart: rd (can be undone), o, cl, cl2`)
	}
	c.Flags().SortFlags = false
	return c
}

// exportFlags are those of all ways out.
func exportFlags(c *cobra.Command) {
	c.Flags().StringArray("mailbox", nil, `only mailboxes of this name, "*" for anything, "%" for anything within a level; may be given again`)
	c.Flags().String("since", "", "only messages with an internal date from then on: 2026-03-01, 2026-03-01T12:30, 90m, 7d")
	c.Flags().Bool("no-proof", false, "do not read everything back at the end")
}

// openAccount opens the account as a source of mail.
func openAccount(cmd *cobra.Command) (src *account.Source, address string, done func() error, err error) {
	address, _ = cmd.Flags().GetString("account")
	if address == "" {
		return nil, "", nil, misused("missing --account ADDRESS; usage: %s", cmd.UseLine())
	}
	o := account.Options{Address: address}
	if text, _ := cmd.Flags().GetString("since"); text != "" {
		if o.Since, err = sinceTime(text, time.Now()); err != nil {
			return nil, "", nil, err
		}
	}
	cl, err := connect(cmd, false)
	if err != nil {
		return nil, "", nil, err
	}
	o.Call = cl.read
	return account.New(o), address, cl.close, nil
}

// read makes a call whose answer is more than lines.
func (c *client) read(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://martlet"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, failed("the server does not answer: %v", err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, answerError(json.NewDecoder(resp.Body), resp.Status)
	}
	return resp.Body, nil
}

func exportFolder(cmd *cobra.Command, form outward.Form) error {
	out, _ := cmd.Flags().GetString("out")
	if out == "" {
		return misused("missing --out DIR; usage: %s", cmd.UseLine())
	}
	o := outward.Options{Form: form, Now: time.Now}
	if form == outward.Mbox {
		q, _ := cmd.Flags().GetString("quoting")
		o.Quoting = outward.Quoting(q)
		switch o.Quoting {
		case outward.QuoteRD, outward.QuoteO, outward.QuoteCL, outward.QuoteCL2:
		default:
			return misused("--quoting %q is none of rd, o, cl, cl2", q)
		}
	}
	src, address, done, err := openAccount(cmd)
	if err != nil {
		return err
	}
	defer done()
	o.Mailboxes, _ = cmd.Flags().GetStringArray("mailbox")
	list, err := src.Mailboxes(cmd.Context()) // before a folder is made for what does not exist
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(m move.Mailbox) bool { return outward.Matches(o.Mailboxes, m.Name) }) {
		return failed("%s has no mailbox of such a name; see: martlet mailbox list %s", address, address)
	}
	root, release, err := openOut(out)
	if err != nil {
		return err
	}
	defer release()
	bar := newExportBar(cmd)
	o.Source, o.Account, o.Disk, o.Progress = src, address, root, bar.show
	o.NoProof, _ = cmd.Flags().GetBool("no-proof")
	o.Partly = cmd.Flags().Changed("since")
	report, err := outward.Run(cmd.Context(), o)
	bar.clear()
	if err != nil {
		return err
	}
	return endExport(cmd, report, out)
}

// openOut opens the folder that is exported to, for this process alone. What is written
// through it stays in it, whatever links lie there.
func openOut(dir string) (*os.Root, func(), error) {
	if err := makeFolder(dir); err != nil {
		return nil, nil, failed("cannot make the folder %s: %v", dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, failed("cannot open the folder %s: %v", dir, err)
	}
	free, err := lockFolder(dir)
	if err != nil {
		root.Close()
		return nil, nil, failed("another export writes to %s", dir)
	}
	return root, func() { free(); root.Close() }, nil
}

// exportDone is the last one.
type exportDone struct {
	Event    string `json:"event"`
	Whole    bool   `json:"whole"`
	Messages int64  `json:"messages"`
	Bytes    int64  `json:"bytes"`
	Added    int64  `json:"added"`
	Proven   int64  `json:"proven"`
	Differ   int64  `json:"differ"`
	Skipped  int64  `json:"skipped"`
	Out      string `json:"out"`
}

// endExport tells how it went.
func endExport(cmd *cobra.Command, r *outward.Report, where string) error {
	out := cmd.OutOrStdout()
	sum := exportDone{Event: "done", Whole: r.Whole(), Out: where}
	t := newTable(out, "MAILBOX", "MESSAGES", "SIZE", "NEW", "FLAGS", "PROVEN", "DIFFER", "SKIPPED")
	for i := range r.Mailboxes {
		m := &r.Mailboxes[i]
		sum.Messages, sum.Bytes, sum.Added = sum.Messages+m.Messages, sum.Bytes+m.Bytes, sum.Added+m.Added
		sum.Proven, sum.Differ, sum.Skipped = sum.Proven+m.Proven, sum.Differ+m.Differ, sum.Skipped+m.Skipped
		if wantsJSON(cmd) {
			if err := printJSON(out, struct {
				Event string `json:"event"`
				*outward.Result
			}{"mailbox", m}); err != nil {
				return err
			}
			continue
		}
		t.row(m.Mailbox, m.Messages, bytesText(m.Bytes), m.Added, m.Reflagged, m.Proven, m.Differ, m.Skipped)
		if m.Error != "" {
			t.row("  "+m.Error, "", "", "", "", "", "", "")
		}
	}
	for _, s := range r.Skipped {
		if wantsJSON(cmd) {
			if err := printJSON(out, struct {
				Event string `json:"event"`
				outward.Skip
			}{"skipped", s}); err != nil {
				return err
			}
		}
	}
	if err := sayExport(cmd, t, r, sum); err != nil {
		return err
	}
	if !sum.Whole {
		return failed("not all of the account is in %s; what is missing is listed, run the command again to try once more", where)
	}
	return nil
}

// sayExport writes the last lines.
func sayExport(cmd *cobra.Command, t *table, r *outward.Report, sum exportDone) error {
	out := cmd.OutOrStdout()
	if wantsJSON(cmd) {
		return printJSON(out, sum)
	}
	if err := t.end(""); err != nil {
		return err
	}
	for i, s := range r.Skipped {
		if i == 20 {
			fmt.Fprintf(out, "... and %d more; --json lists all\n", len(r.Skipped)-i)
			break
		}
		fmt.Fprintf(out, "%s, UID %d: %s\n", clean(s.Mailbox), s.UID, clean(s.Why))
	}
	said := "compared with the account: no difference"
	switch {
	case sum.Differ > 0:
		said = fmt.Sprintf("%s not as in the account", counted(sum.Differ, "message"))
	case sum.Proven == 0 && sum.Messages > 0:
		said = "not compared"
	}
	_, err := fmt.Fprintf(out, "%s (%s) in %s, %d of them new; %s\n", counted(sum.Messages, "message"), bytesText(sum.Bytes), clean(sum.Out), sum.Added, said)
	return err
}

// exportBar shows how far an export is: a bar on a terminal, lines of JSON with --json.
type exportBar struct {
	w    io.Writer
	json bool
	bar  *progressbar.ProgressBar
	last time.Time
}

func newExportBar(cmd *cobra.Command) *exportBar {
	return &exportBar{w: cmd.ErrOrStderr(), json: wantsJSON(cmd), last: time.Now()}
}

func (b *exportBar) show(p outward.Progress) {
	if !isTerminal(b.w) {
		if now := time.Now(); b.json && now.Sub(b.last) >= time.Second {
			b.last = now
			_ = printJSON(b.w, benchProgress{"progress", p.Mailbox, int(p.Messages), int(p.Total)}) // only a sign of life
		}
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(max(p.Total, 1), progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription("messages"),
			progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	_ = b.bar.Set64(min(p.Messages, max(p.Total, 1)))
}

func (b *exportBar) clear() {
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}
