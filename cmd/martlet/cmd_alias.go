package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func newAliasCommand() *cobra.Command {
	add := &cobra.Command{
		Use: "add ADDRESS TARGET...", Short: "Make an address stand for others",
		Long: `Makes an address stand for others, here or elsewhere, or gives an existing alias more
targets. @DOMAIN is the domain's catch-all: it gets what no other address does.`,
		Example: `  martlet alias add info@example.org carol@example.org dave@example.net
  martlet alias add @example.org carol@example.org
  martlet alias add info@example.org erin@example.org --json`,
		Args: arguments(2, -1), RunE: addAlias,
	}
	list := &cobra.Command{
		Use: "list [DOMAIN]", Short: "List the aliases, of all domains or of one",
		Example: `  martlet alias list
  martlet alias list example.org --json | jq -r '.targets[]'`,
		Args: arguments(0, 1), RunE: listAliases,
	}
	remove := &cobra.Command{
		Use: "remove ADDRESS [TARGET...]", Short: "Remove an alias, or some of its targets",
		Example: `  martlet alias remove info@example.org
  martlet alias remove info@example.org dave@example.net
  martlet alias remove @example.org`,
		Args: arguments(1, -1), RunE: removeAlias,
	}
	return family("alias", "Add, list and remove aliases and catch-alls",
		"An alias is an address that stands for others: accounts, further aliases, or addresses elsewhere.", add, list, remove)
}

func addAlias(cmd *cobra.Command, args []string) error {
	body := map[string]any{"address": args[0], "targets": args[1:]}
	return change(cmd, call{"POST", "/v1/aliases", body, false}, aliasSentence)
}

func removeAlias(cmd *cobra.Command, args []string) error {
	path := "/v1/aliases/" + url.PathEscape(args[0])
	if len(args) > 1 {
		path += "?" + url.Values{"target": args[1:]}.Encode()
	}
	return change(cmd, call{"DELETE", path, nil, false}, aliasSentence)
}

func aliasSentence(a map[string]any) string {
	targets, _ := a["targets"].([]any)
	if len(targets) == 0 {
		return fmt.Sprintf("%v is no alias any more", a["address"])
	}
	var names []string
	for _, t := range targets {
		names = append(names, fmt.Sprint(t))
	}
	return fmt.Sprintf("%v leads to %s", a["address"], strings.Join(names, ", "))
}

func listAliases(cmd *cobra.Command, args []string) error {
	path := "/v1/aliases"
	if len(args) == 1 {
		path += "?domain=" + url.QueryEscape(args[0])
	}
	t := newTable(cmd.OutOrStdout(), "ADDRESS", "LEADS TO")
	return list(cmd, path, func(line json.RawMessage) error {
		var a struct {
			Address string   `json:"address"`
			Targets []string `json:"targets"`
		}
		if err := json.Unmarshal(line, &a); err != nil {
			return err
		}
		t.row(a.Address, strings.Join(a.Targets, ", "))
		return nil
	}, func() error { return t.end("there are no aliases; add one with: martlet alias add ADDRESS TARGET") })
}
