package admin

import (
	"strings"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// aliasCalls are the calls about aliases.
func (a *api) aliasCalls() map[string]handler {
	return map[string]handler{
		"GET /v1/aliases":              a.listAliases,
		"POST /v1/aliases":             a.addAlias,
		"DELETE /v1/aliases/{address}": a.removeAlias,
	}
}

// An alias whose address has no local part (@example.org) is the domain's catch-all.
type aliasLine struct {
	Address string   `json:"address"`
	Targets []string `json:"targets"`
}

func (a *api) listAliases(r *request) error {
	only := r.URL.Query().Get("domain")
	domains, err := a.Directory.Domains(r.ctx)
	if err != nil {
		return err
	}
	for _, d := range domains {
		if d.CatchAll.IsZero() || only != "" && only != d.Name {
			continue
		}
		if err := r.send(aliasLine{"@" + d.Name, []string{d.CatchAll.String()}}); err != nil {
			return err
		}
	}
	for alias, err := range a.Directory.Aliases(r.ctx, only) {
		if err != nil {
			return err
		}
		if err := r.send(aliasLineOf(alias)); err != nil {
			return err
		}
	}
	return nil
}

func aliasLineOf(alias directory.Alias) aliasLine {
	line := aliasLine{Address: alias.Address.String()}
	for _, t := range alias.Targets {
		line.Targets = append(line.Targets, t.String())
	}
	return line
}

func (a *api) addAlias(r *request) error {
	var in aliasLine
	if err := r.read(&in); err != nil {
		return err
	}
	targets, err := parseTargets(in.Targets)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fault.New(fault.Invalid, "an alias needs a target")
	}
	if domain, ok := strings.CutPrefix(in.Address, "@"); ok {
		if len(targets) > 1 {
			return fault.New(fault.Invalid, "a catch-all has one target; let it be an alias to reach several")
		}
		return a.setCatchAll(r, domain, targets[0])
	}
	addr, err := parseAddress(in.Address)
	if err != nil {
		return err
	}
	if err := a.Directory.AddAlias(r.ctx, addr, targets...); err != nil {
		return err
	}
	return a.sendAlias(r, addr)
}

// sendAlias answers with the alias as it is now.
func (a *api) sendAlias(r *request, addr mail.Address) error {
	addr = addr.Folded()
	for alias, err := range a.Directory.Aliases(r.ctx, addr.Domain) {
		if err != nil {
			return err
		}
		if alias.Address == addr {
			return r.send(aliasLineOf(alias))
		}
	}
	return r.send(aliasLine{addr.String(), []string{}})
}

func (a *api) removeAlias(r *request) error {
	targets, err := parseTargets(r.URL.Query()["target"])
	if err != nil {
		return err
	}
	if domain, ok := strings.CutPrefix(r.PathValue("address"), "@"); ok {
		return a.removeCatchAll(r, domain, targets)
	}
	addr, err := r.address()
	if err != nil {
		return err
	}
	if err := a.Directory.RemoveAlias(r.ctx, addr, targets...); err != nil {
		return err
	}
	return a.sendAlias(r, addr)
}

func (a *api) setCatchAll(r *request, domain string, target mail.Address) error {
	name, err := parseDomain(domain)
	if err != nil {
		return err
	}
	if err := a.Directory.SetCatchAll(r.ctx, name, target); err != nil {
		return err
	}
	line := aliasLine{"@" + name, []string{}}
	if !target.IsZero() {
		line.Targets = append(line.Targets, target.String())
	}
	return r.send(line)
}

func (a *api) removeCatchAll(r *request, domain string, targets []mail.Address) error {
	domains, err := a.Directory.Domains(r.ctx)
	if err != nil {
		return err
	}
	for _, d := range domains {
		if d.Name != strings.ToLower(domain) || d.CatchAll.IsZero() {
			continue
		}
		if len(targets) > 0 && (len(targets) > 1 || targets[0].Folded() != d.CatchAll.Folded()) {
			return fault.Newf(fault.NotFound, "the catch-all of %s leads to %s", d.Name, d.CatchAll)
		}
		return a.setCatchAll(r, d.Name, mail.Address{})
	}
	return fault.Newf(fault.NotFound, "there is no catch-all of %s", domain)
}

func parseTargets(texts []string) ([]mail.Address, error) {
	var all []mail.Address
	for _, t := range texts {
		addr, err := parseAddress(t)
		if err != nil {
			return nil, err
		}
		all = append(all, addr)
	}
	return all, nil
}
