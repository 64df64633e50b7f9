package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// wantsJSON tells whether the command was given --json.
func wantsJSON(cmd *cobra.Command) bool {
	on, err := cmd.Flags().GetBool("json")
	return err == nil && on
}

// isTerminal tells whether a person looks at w (or types into it).
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// paint puts a colour around text on a terminal that wants one
// (https://no-color.org).
func paint(w io.Writer, code, text string) string {
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

const bold = "1"

// printJSON writes v as one line.
func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// table writes rows under a heading, in columns.
type table struct {
	tw   *tabwriter.Writer
	out  *bufio.Writer
	rows int
	head []string
}

func newTable(w io.Writer, head ...string) *table {
	out := bufio.NewWriter(w)
	return &table{tw: tabwriter.NewWriter(out, 0, 4, 2, ' ', 0), out: out, head: head}
}

func (t *table) row(cells ...any) {
	if t.rows == 0 {
		fmt.Fprintln(t.tw, strings.Join(t.head, "\t"))
	}
	t.rows++
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.tw, "\t")
		}
		fmt.Fprint(t.tw, clean(fmt.Sprint(c)))
	}
	fmt.Fprintln(t.tw)
}

// end writes the table out, or the sentence if it has no rows.
func (t *table) end(ifEmpty string) error {
	if t.rows == 0 && ifEmpty != "" {
		fmt.Fprintln(t.out, ifEmpty)
	}
	if err := t.tw.Flush(); err != nil {
		return err
	}
	return t.out.Flush()
}

// clean keeps what strangers chose (addresses, mailbox names, replies of other hosts)
// from moving the cursor or breaking the columns.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1000, 0
	for f >= 999.5 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	if f < 10 {
		return fmt.Sprintf("%.1f %cB", f, units[i])
	}
	return fmt.Sprintf("%.0f %cB", f, units[i])
}

// counted writes "1 message", "2 messages".
func counted(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if s, ok := strings.CutSuffix(thing, "x"); ok {
		return fmt.Sprintf("%d %sxes", n, s)
	}
	if s, ok := strings.CutSuffix(thing, "y"); ok && !strings.HasSuffix(s, "a") { // days
		return fmt.Sprintf("%d %sies", n, s)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// confirmed asks a question before something that cannot be undone. Off a terminal,
// and with --yes, the command itself is the answer.
func confirmed(cmd *cobra.Command, question string) error {
	if yes, _ := cmd.Flags().GetBool("yes"); yes || !isTerminal(cmd.InOrStdin()) || !isTerminal(cmd.ErrOrStderr()) {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	line, _ := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), 100)).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return failed("nothing was changed")
}
