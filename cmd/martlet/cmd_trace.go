package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/trace"
)

func newTraceCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "trace {ADDRESS | @DOMAIN | MESSAGE-ID | ID}", Short: "Tell the whole story of a message",
		Long: `Tells what became of messages: where each came from and over which TLS, what the checks
found, into which mailboxes it went, where it was sent on, each attempt and what the
other host said. A message is found by its sender, its author, a recipient, its
Message-ID, or the id that a reply, a Received field or the queue has.

The newest stories come last. [trace] in the configuration says for how long they are
kept.`,
		Example: `  martlet trace bob@example.org
  martlet trace '<20260131.12345@example.org>'
  martlet trace @gmail.com --since 1h
  martlet trace 3kx0v1 --json | jq '.events[].recipients[]?'`,
		Args: arguments(1, 1), RunE: tellTrace,
	}
	c.Flags().String("since", "7d", "how far back to look")
	c.Flags().Int("limit", 20, "most stories told")
	return c
}

func tellTrace(cmd *cobra.Command, args []string) error {
	query := url.Values{"name": args}
	text, _ := cmd.Flags().GetString("since")
	var back conf.Duration
	if err := back.UnmarshalText([]byte(text)); err != nil {
		return misused("--since: %v", err)
	}
	query.Set("since", time.Now().Add(-time.Duration(back)).UTC().Format(time.RFC3339))
	limit, _ := cmd.Flags().GetInt("limit")
	if limit < 1 || limit > 10_000 {
		return misused("--limit: %d is not a number from 1 to 10000", limit)
	}
	query.Set("limit", strconv.Itoa(limit))
	out, count := cmd.OutOrStdout(), 0
	return list(cmd, "/v1/trace?"+query.Encode(), func(line json.RawMessage) error {
		var s trace.Story
		if err := json.Unmarshal(line, &s); err != nil {
			return err
		}
		if count++; count > 1 {
			fmt.Fprintln(out)
		}
		return printStory(out, s)
	}, func() error {
		if count == 0 {
			_, err := fmt.Fprintf(out, "no message of %s is known within the last %s\n", clean(args[0]), back)
			return err
		}
		return nil
	})
}

// printStory writes a story for people, one event after the other.
func printStory(w io.Writer, s trace.Story) error {
	for i, e := range s.Events {
		at := e.At.Local()
		form := "Jan 02 15:04:05"
		if i == 0 {
			form = "2006-01-02 15:04:05"
		}
		fmt.Fprintf(w, "%s  %s\n", at.Format(form), paint(w, bold, clean(headline(e))))
		for _, line := range details(e) {
			fmt.Fprintf(w, "    %s\n", clean(line))
		}
		for _, to := range e.To {
			fmt.Fprintf(w, "    %s\n", clean(fate(to)))
		}
		if e.More > 0 {
			if _, err := fmt.Fprintf(w, "    and %s\n", counted(int64(e.More), "recipient")); err != nil {
				return err
			}
		}
	}
	return nil
}

// headline is an event in one line.
func headline(e trace.Event) string {
	switch e.What {
	case trace.Received:
		if e.ID == "" {
			return fmt.Sprintf("made here, from %s, %s", e.From, bytesText(e.Size))
		}
		return fmt.Sprintf("received from %s, %s, as %s", e.From, bytesText(e.Size), e.ID)
	case trace.Refused:
		if e.Code == 0 {
			return "refused from " + e.From
		}
		return fmt.Sprintf("refused from %s: %s", e.From, answer(e.Code, e.Enhanced, e.Text))
	case trace.Attempt:
		return fmt.Sprintf("attempt %d of %s", max(e.Attempts, 1), e.Queue)
	case trace.GivenUp:
		return "given up, it waited for too long"
	case trace.Report:
		return "report of " + e.Text
	case trace.Changed:
		return e.Text
	}
	return string(e.What)
}

// details are what else is known of an event.
func details(e trace.Event) (lines []string) {
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, fmt.Sprintf("%-10s %s", name, value))
		}
	}
	add("author", e.Author)
	add("subject", e.Subject)
	add("message-id", e.MessageID)
	if e.Peer != "" || e.Login != "" {
		way := []string{e.Protocol}
		if e.Login != "" {
			way = append(way, "login "+e.Login)
		}
		if e.Peer != "" {
			way = append(way, "from "+strings.TrimSpace(e.Helo+" ["+e.Peer+"]"))
		}
		if e.TLS != "" {
			way = append(way, e.TLS)
		} else {
			way = append(way, "no TLS")
		}
		add("by", strings.Join(way, ", "))
	}
	add("verdict", e.Verdict)
	add("action", e.Action)
	add("signed", e.Signed)
	return lines
}

// fate is what became of one recipient.
func fate(r trace.Recipient) string {
	var b strings.Builder
	b.WriteString(r.Address)
	if r.For != "" {
		fmt.Fprintf(&b, " (for %s)", r.For)
	}
	switch r.State {
	case trace.Delivered:
		fmt.Fprintf(&b, ": delivered")
		if r.Mailbox != "" {
			fmt.Fprintf(&b, " to %s", r.Mailbox)
		}
	case trace.Queued:
		fmt.Fprintf(&b, ": queued as %s", r.Queue)
	default:
		fmt.Fprintf(&b, ": %s", r.State)
	}
	if r.Host != "" {
		fmt.Fprintf(&b, ", %s", strings.TrimSpace(r.Host+" "+r.At))
		if r.TLS != "" {
			fmt.Fprintf(&b, " (%s)", r.TLS)
		} else {
			b.WriteString(" (no TLS)")
		}
	}
	if r.Code != 0 || r.Text != "" {
		fmt.Fprintf(&b, ": %s", answer(r.Code, r.Enhanced, r.Text))
	}
	if r.Next != nil {
		fmt.Fprintf(&b, "; next attempt %s", r.Next.Local().Format("Jan 02 15:04"))
	}
	return b.String()
}

// answer is a reply of SMTP, or a sentence of ours.
func answer(code int, enhanced, text string) string {
	if code == 0 {
		return text
	}
	return strings.Join(strings.Fields(fmt.Sprintf("%d %s %s", code, enhanced, text)), " ")
}
