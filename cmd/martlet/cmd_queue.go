package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newQueueCommand() *cobra.Command {
	listing := &cobra.Command{
		Use: "list", Short: "List the messages that wait, and why",
		Long: "Lists the messages that wait, oldest first, each with the reason in plain words.",
		Example: `  martlet queue list
  martlet queue list --domain example.net
  martlet queue list --json | jq -r 'select(.attempts > 3) | .id'`,
		Args: arguments(0, 0), RunE: listQueue,
	}
	listing.Flags().String("domain", "", "only messages for recipients of this domain")
	listing.Flags().String("sender", "", "only messages whose sender contains this")
	listing.Flags().String("recipient", "", "only messages with a recipient that contains this")
	listing.Flags().Bool("held", false, "only messages that are held")
	listing.Flags().Bool("scheduled", false, "only messages whose senders want them released later")
	listing.Flags().String("login", "", "only messages that this account sent")
	show := &cobra.Command{
		Use: "show ID", Short: "Show a message with each recipient's state",
		Example: `  martlet queue show 3kx0v1
  martlet queue show 3kx0v1 --json | jq '.recipients[]'`,
		Args: arguments(1, 1), RunE: showQueued,
	}
	retry := queueAction("retry", "Make messages due now", "Makes messages due now. Those that are held stay so.", "due now")
	hold := queueAction("hold", "Keep messages from being tried", "Keeps messages from being tried until they are released.", "held")
	release := queueAction("release", "Let held messages go on", "Lets messages that are held go on; they are due now.", "released")
	drop := queueAction("drop", "Remove messages for good", `Removes messages for good: silently, or with --report telling their senders. On a
terminal, --all asks first.`, "dropped")
	drop.Flags().Bool("report", false, "tell the sender that the message was not delivered")
	drop.Flags().Bool("yes", false, "do not ask")
	return family("queue", "Look after mail that waits for other hosts",
		"The queue holds mail that other hosts, or full mailboxes here, have not taken yet.", listing, show, retry, hold, release, drop, newQueueSentCommand(),
		newQueueBouncedCommand(), newQueueForgiveCommand())
}

func queueAction(name, short, long, done string) *cobra.Command {
	c := &cobra.Command{
		Use: name + " {ID... | --all}", Short: short, Long: long,
		Example: fmt.Sprintf("  martlet queue %[1]s 3kx0v1\n  martlet queue %[1]s --all\n  martlet queue %[1]s --all --json", name),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeQueue(cmd, name, done, args)
		},
	}
	c.Flags().Bool("all", false, "every message in the queue")
	return c
}

func changeQueue(cmd *cobra.Command, action, done string, ids []string) error {
	all, _ := cmd.Flags().GetBool("all")
	if all == (len(ids) > 0) {
		return misused("name messages by their id, or all with --all; usage: %s", cmd.UseLine())
	}
	query := ""
	if report, _ := cmd.Flags().GetBool("report"); report {
		query = "?report=true"
	}
	if all {
		if action == "drop" {
			if err := confirmed(cmd, "Drop every message in the queue for good?"); err != nil {
				return err
			}
		}
		return change(cmd, call{"POST", "/v1/queue/" + action + query, nil, false}, func(a map[string]any) string {
			count, _ := a["count"].(float64)
			return fmt.Sprintf("%s %s", counted(int64(count), "message"), done)
		})
	}
	for _, id := range ids {
		err := change(cmd, call{"POST", "/v1/queue/" + url.PathEscape(id) + "/" + action + query, nil, false}, func(a map[string]any) string {
			return fmt.Sprintf("%v %s", a["id"], done)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// queued is a message as the handler tells of it.
type queued struct {
	ID         string     `json:"id"`
	From       string     `json:"from"`
	To         []string   `json:"to"`
	Attempts   int        `json:"attempts"`
	Next       *time.Time `json:"next_attempt"`
	Reason     string     `json:"reason"`
	Held       bool       `json:"held"`
	State      string     `json:"state"`
	Priority   int        `json:"priority"`
	Deadline   *time.Time `json:"deliver_by"`
	Sending    bool       `json:"sending"`
	Bytes      int64      `json:"bytes"`
	Created    time.Time  `json:"created"`
	Expires    time.Time  `json:"expires"`
	Login      string     `json:"login"`
	Peer       string     `json:"peer"`
	Recipients []struct {
		Address string `json:"address"`
		State   string `json:"state"`
		Reason  string `json:"reason"`
		TLS     string `json:"tls"`
		Facts   struct {
			Cipher  string `json:"cipher"`
			Failure string `json:"failure"`
			Why     string `json:"why"`
		} `json:"tls_facts"`
	} `json:"recipients"`
}

func (q queued) sender() string {
	if q.From == "" {
		return "<>"
	}
	return q.From
}

// when says when the next attempt comes.
func (q queued) when() string {
	switch {
	case q.Held:
		return "held"
	case q.State == "scheduled" && q.Next != nil:
		return "not released before " + q.Next.Local().Format("Jan 02 15:04")
	case q.Sending:
		return "now"
	case q.Next == nil:
		return "-"
	}
	return q.Next.Local().Format("Jan 02 15:04")
}

func listQueue(cmd *cobra.Command, _ []string) error {
	query := url.Values{}
	for _, name := range []string{"domain", "sender", "recipient", "login"} {
		if v, _ := cmd.Flags().GetString(name); v != "" {
			query.Set(name, v)
		}
	}
	for _, name := range []string{"held", "scheduled"} {
		if only, _ := cmd.Flags().GetBool(name); only {
			query.Set(name, "true")
		}
	}
	out := cmd.OutOrStdout()
	count := int64(0)
	return list(cmd, "/v1/queue?"+query.Encode(), func(line json.RawMessage) error {
		var q queued
		if err := json.Unmarshal(line, &q); err != nil {
			return err
		}
		count++
		return q.summary(out)
	}, func() error {
		text := counted(count, "message") + " in the queue"
		if count == 0 {
			text = "no message waits"
		}
		_, err := fmt.Fprintln(out, text)
		return err
	})
}

// summary takes three lines: a reason is a sentence and has no place in a column.
func (q queued) summary(w io.Writer) error {
	to := q.To
	if len(to) > 3 {
		to = append(append([]string(nil), to[:3]...), fmt.Sprintf("and %d more", len(q.To)-3))
	}
	_, err := fmt.Fprintf(w, "%s  %s  %s, next attempt %s\n    %s -> %s\n    %s\n", paint(w, bold, q.ID), bytesText(q.Bytes),
		counted(int64(q.Attempts), "attempt"), q.when(), clean(q.sender()), clean(strings.Join(to, ", ")), clean(q.Reason))
	return err
}

func showQueued(cmd *cobra.Command, args []string) error {
	out := cmd.OutOrStdout()
	return list(cmd, "/v1/queue/"+url.PathEscape(args[0]), func(line json.RawMessage) error {
		var q queued
		if err := json.Unmarshal(line, &q); err != nil {
			return err
		}
		const day = "Jan 02 15:04"
		fmt.Fprintf(out, "%s\nFrom     %s\nSize     %s\nCame     %s\nGoes back %s\nAttempts %d, next %s\n", paint(out, bold, q.ID), clean(q.sender()),
			bytesText(q.Bytes), q.Created.Local().Format(day), q.Expires.Local().Format(day), q.Attempts, q.when())
		if q.Priority != 0 {
			fmt.Fprintf(out, "Priority %d\n", q.Priority)
		}
		if q.Deadline != nil {
			fmt.Fprintf(out, "Deadline %s\n", q.Deadline.Local().Format(day))
		}
		if q.Login != "" || q.Peer != "" {
			fmt.Fprintf(out, "By       %s %s\n", clean(orDash(q.Login)), clean(q.Peer))
		}
		for _, r := range q.Recipients {
			if _, err := fmt.Fprintf(out, "  %-9s %s\n            %s\n", r.State, clean(r.Address), clean(r.Reason)); err != nil {
				return err
			}
			if r.TLS != "" {
				fmt.Fprintf(out, "            %s\n", clean(strings.TrimSuffix(r.TLS+", "+r.Facts.Cipher, ", ")))
			}
			if r.Facts.Failure != "" {
				fmt.Fprintf(out, "            TLS: %s\n", clean(strings.TrimSuffix(r.Facts.Failure+": "+r.Facts.Why, ": ")))
			}
		}
		return nil
	}, func() error { return nil })
}
