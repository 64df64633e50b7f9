package main

import (
	"io"
	"slices"
	"testing"
)

// Names of hosted domains get a certificate if the DNS leads them here, the domain itself as any
// other, and none that leads elsewhere or nowhere.
func TestPeoplesNames(t *testing.T) {
	config, names := namesConfig(t, "")
	for _, domain := range []string{"here.example", "elsewhere.example"} {
		if got := command(t, "", "domain", "add", domain, "--config", config); got.code != 0 {
			t.Fatal(got)
		}
	}
	zone := "here.example. A 192.0.2.1\nautoconfig.here.example. A 192.0.2.1\nimap.here.example. A 192.0.2.9\n" +
		"elsewhere.example. A 192.0.2.9\nautoconfig.elsewhere.example. CNAME mail.example.org.\nmail.example.org. A 192.0.2.1\n"
	if err := names.SetZone(zone); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := loadConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	h, err := openHouse(t.Context(), cfg, newLog(io.Discard, cfg.Log))
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	got := h.peoplesNames(t.Context())
	slices.Sort(got)
	if want := []string{"autoconfig.elsewhere.example", "autoconfig.here.example", "here.example"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
