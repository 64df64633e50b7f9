package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/conf"
	reports "github.com/martlet-mail/martlet/internal/report"
)

func newReportsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "reports [DOMAIN]", Short: "Show who sends in a domain's name, and what failed",
		Long: `Shows what other servers report about domains of this one: who sends mail in their name
and whether SPF and DKIM stand for it (DMARC aggregate reports), and whether others
reach them over TLS (TLS reports). Of what fails it says why, and what mends it.

Reports arrive by themselves, a day late, once the DNS asks for them: see martlet dns
show. A report that its sender does not vouch for is marked "unverified"; anybody could
have written it. With --sent it shows what became of the reports that this server owes
others.`,
		Example: `  martlet reports
  martlet reports example.org --since 7d --kind dmarc
  martlet reports --sent
  martlet reports --json | jq 'select(.dmarc == "fail")'`,
		Args: arguments(0, 1), RunE: showReports,
	}
	c.Flags().String("since", "30d", "how far back to look")
	c.Flags().String("kind", "", "only dmarc, or only tls")
	c.Flags().Bool("sent", false, "the reports of this server to others")
	return c
}

func showReports(cmd *cobra.Command, args []string) error {
	query := url.Values{}
	if len(args) == 1 {
		query.Set("domain", args[0])
	}
	text, _ := cmd.Flags().GetString("since")
	var back conf.Duration
	if err := back.UnmarshalText([]byte(text)); err != nil {
		return misused("--since: %v", err)
	}
	query.Set("since", time.Now().Add(-time.Duration(back)).UTC().Format(time.RFC3339))
	if kind, _ := cmd.Flags().GetString("kind"); kind != "" {
		if kind != "dmarc" && kind != "tls" {
			return misused("--kind: %q is neither dmarc nor tls", kind)
		}
		query.Set("kind", kind)
	}
	out := cmd.OutOrStdout()
	if sent, _ := cmd.Flags().GetBool("sent"); sent {
		query.Set("sent", "true")
		return listSentReports(cmd, out, query)
	}
	var all reportView
	return list(cmd, "/v1/reports?"+query.Encode(), all.add, func() error { return all.print(out, back) })
}

func listSentReports(cmd *cobra.Command, out io.Writer, query url.Values) error {
	t := newTable(out, "DAY", "KIND", "DOMAIN", "COUNT", "STATE", "TO", "WHY")
	return list(cmd, "/v1/reports?"+query.Encode(), func(line json.RawMessage) error {
		var s reports.SentLine
		if err := json.Unmarshal(line, &s); err != nil {
			return err
		}
		to := "-"
		if len(s.To) > 0 {
			to = strings.Join(s.To, ", ")
		}
		t.row(s.Day, s.Kind, s.Domain, s.Count, s.State, to, s.Reason)
		return nil
	}, func() error { return t.end("no report was due in this time") })
}

// reportView is what is shown.
type reportView struct {
	sources    []reports.Source
	transports []reports.Transport
}

func (v *reportView) add(line json.RawMessage) error {
	var what struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(line, &what); err != nil {
		return err
	}
	if what.Kind == "tls" {
		var t reports.Transport
		err := json.Unmarshal(line, &t)
		v.transports = append(v.transports, t)
		return err
	}
	var s reports.Source
	err := json.Unmarshal(line, &s)
	v.sources = append(v.sources, s)
	return err
}

func (v *reportView) print(w io.Writer, back conf.Duration) error {
	if len(v.sources)+len(v.transports) == 0 {
		_, err := fmt.Fprintf(w, "no report has come in the last %s; others send them once the DNS asks for them, see: martlet dns show DOMAIN\n", back)
		return err
	}
	for i := 0; i < len(v.sources); {
		n := i
		for n < len(v.sources) && v.sources[n].Domain == v.sources[i].Domain {
			n++
		}
		if err := printSources(w, v.sources[i:n]); err != nil {
			return err
		}
		i = n
	}
	for i := 0; i < len(v.transports); {
		n := i
		for n < len(v.transports) && v.transports[n].Domain == v.transports[i].Domain {
			n++
		}
		if err := printTransports(w, v.transports[i:n]); err != nil {
			return err
		}
		i = n
	}
	return nil
}

// share is a part of a whole for people.
func share(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}

// printSources shows who sends in the name of one domain.
func printSources(w io.Writer, list []reports.Source) error {
	sum, good := uint64(0), uint64(0)
	for _, s := range list {
		sum += s.Messages
		if s.DMARC == "pass" {
			good += s.Messages
		}
	}
	fmt.Fprintf(w, "%s\n\n", paint(w, bold, clean(fmt.Sprintf("Mail in the name of %s: %s, %s pass DMARC", list[0].Domain, counted(int64(sum), "message"), share(good, sum)))))
	t := newTable(w, "MESSAGES", "SOURCE", "NAME", "FROM", "SPF", "DKIM", "RESULT")
	for _, s := range list {
		source := s.Address
		if source == "" {
			source = "all others"
		}
		name := orDash(s.Name)
		if s.Ours {
			name = "this server"
		}
		t.row(s.Messages, source, name, s.HeaderFrom, s.SPF, s.DKIM, outcome(s)+unlessVerified(s.Verified))
	}
	if err := t.end(""); err != nil {
		return err
	}
	for _, s := range list {
		if s.Why != "" {
			explain(w, s.Address, s.Why, s.Fix)
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// outcome is what became of the messages.
func outcome(s reports.Source) string {
	result := map[string]string{"none": "delivered", "pass": "delivered", "quarantine": "junk", "reject": "refused"}[s.Disposition]
	if result == "" {
		result = orDash(s.Disposition)
	}
	if s.DMARC == "fail" {
		return "fails, " + result
	}
	return result
}

func unlessVerified(verified bool) string {
	if verified {
		return ""
	}
	return " (unverified)"
}

func explain(w io.Writer, what, why, fix string) {
	if what == "" {
		what = "all others"
	}
	fmt.Fprintf(w, "\n  %s: %s\n", clean(what), clean(why))
	if fix != "" {
		fmt.Fprintf(w, "    fix: %s\n", clean(fix))
	}
}

// printTransports shows how others reach one domain.
func printTransports(w io.Writer, list []reports.Transport) error {
	sum, good := uint64(0), uint64(0)
	for _, s := range list {
		sum += s.Sessions
		if s.Result == "ok" {
			good += s.Sessions
		}
	}
	fmt.Fprintf(w, "%s\n\n", paint(w, bold, clean(fmt.Sprintf("TLS to %s: %s, %s as they should be", list[0].Domain, counted(int64(sum), "connection"), share(good, sum)))))
	t := newTable(w, "CONNECTIONS", "RESULT", "POLICY", "HOST", "REPORTED BY")
	for _, s := range list {
		t.row(s.Sessions, s.Result, s.Policy, orDash(s.Host), strings.Join(s.Reporters, ", ")+unlessVerified(s.Verified))
	}
	if err := t.end(""); err != nil {
		return err
	}
	for _, s := range list {
		if s.Why != "" {
			why := s.Why
			if len(s.Reasons) > 0 {
				why += " (" + strings.Join(s.Reasons, "; ") + ")"
			}
			explain(w, s.Result, why, s.Fix)
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}
