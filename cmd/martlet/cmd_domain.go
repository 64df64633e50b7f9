package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func newDomainCommand() *cobra.Command {
	add := &cobra.Command{
		Use: "add DOMAIN", Short: "Make a domain local: mail for it ends here",
		Long: "Makes a domain local: mail for it ends here. Keys that sign its mail are made with it;\n\"martlet dns show\" prints them with all other records that it should have.",
		Example: `  martlet domain add example.org
  martlet domain add example.org --config /etc/martlet/martlet.toml
  martlet domain add example.org --json`,
		Args: arguments(1, 1), RunE: addDomain,
	}
	list := &cobra.Command{
		Use: "list", Short: "List the local domains",
		Example: `  martlet domain list
  martlet domain list --json | jq -r .domain`,
		Args: arguments(0, 0), RunE: listDomains,
	}
	remove := &cobra.Command{
		Use: "remove DOMAIN", Short: "Make a domain foreign again",
		Long: `Makes a domain foreign again. Its accounts and aliases must be removed first. Its signing
keys and settings are deleted; records that "martlet dns apply" made stay in the DNS, and
are named.`,
		Example: `  martlet domain remove example.org
  martlet domain remove example.org --json`,
		Args: arguments(1, 1), RunE: removeDomain,
	}
	return family("domain", "Add, list, set up and remove local domains",
		"Local domains are those whose mail ends here. The change holds at once, also in a running server.",
		append([]*cobra.Command{add, list, remove}, domainCommands()...)...)
}

func addDomain(cmd *cobra.Command, args []string) error {
	return change(cmd, call{"POST", "/v1/domains", map[string]string{"domain": args[0]}, true}, func(a map[string]any) string {
		return fmt.Sprintf("%v is a local domain now, with keys that sign its mail; what to put into the DNS: martlet dns show %v", a["domain"], a["domain"])
	})
}

func removeDomain(cmd *cobra.Command, args []string) error {
	return change(cmd, call{"DELETE", "/v1/domains/" + url.PathEscape(args[0]), nil, false}, func(a map[string]any) string {
		text := fmt.Sprintf("%v is no local domain any more", a["removed"])
		if left, _ := a["dns"].([]any); len(left) > 0 {
			text += fmt.Sprintf("; to be taken out of the DNS, where dns apply has put it: %s", strings.Trim(fmt.Sprintf("%q", left), "[]"))
		}
		return text
	})
}

func listDomains(cmd *cobra.Command, _ []string) error {
	t := newTable(cmd.OutOrStdout(), "DOMAIN", "CATCH-ALL")
	return list(cmd, "/v1/domains", func(line json.RawMessage) error {
		var d struct {
			Domain   string `json:"domain"`
			CatchAll string `json:"catch_all"`
		}
		if err := json.Unmarshal(line, &d); err != nil {
			return err
		}
		t.row(d.Domain, orDash(d.CatchAll))
		return nil
	}, func() error { return t.end("there are no domains; add one with: martlet domain add DOMAIN") })
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// call is one request to the admin handler.
type call struct {
	method, path string
	body         any
	mayCreate    bool // also where there is no data folder yet
}

// change sends a request that is answered by one object, and prints that object or the
// sentence made of it.
func change(cmd *cobra.Command, c call, sentence func(answer map[string]any) string) error {
	cl, err := connect(cmd, c.mayCreate)
	if err != nil {
		return err
	}
	defer cl.close()
	out := cmd.OutOrStdout()
	return cl.do(cmd.Context(), c.method, c.path, c.body, func(line json.RawMessage) error {
		if wantsJSON(cmd) {
			return printJSON(out, line)
		}
		var answer map[string]any
		if err := json.Unmarshal(line, &answer); err != nil {
			return err
		}
		_, err := fmt.Fprintln(out, clean(sentence(answer)))
		return err
	})
}

// list asks for a list and prints its lines as they are, or hands them to row and then
// calls end.
func list(cmd *cobra.Command, path string, row func(line json.RawMessage) error, end func() error) error {
	cl, err := connect(cmd, false)
	if err != nil {
		return err
	}
	defer cl.close()
	if wantsJSON(cmd) {
		return cl.do(cmd.Context(), "GET", path, nil, func(line json.RawMessage) error {
			return printJSON(cmd.OutOrStdout(), line)
		})
	}
	if err := cl.do(cmd.Context(), "GET", path, nil, row); err != nil {
		return err
	}
	return end()
}
