package main

import (
	"net"
	"slices"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/milter"
	"github.com/martlet-mail/martlet/internal/receive"
)

// filters are the programs of [[milter]].
func filters(cfg *conf.Config) (all []receive.Filter) {
	for _, m := range cfg.Milters {
		network := "tcp"
		if strings.Contains(m.Address, "/") {
			network = "unix"
		}
		all = append(all, receive.Filter{
			Filter: milter.New(milter.Options{
				Name: m.Name, Network: network, Address: m.Address, Timeout: time.Duration(m.Timeout),
				Hostname: string(cfg.Hostname), Version: "Martlet " + thisBuild().Version, Dial: new(net.Dialer).DialContext,
			}),
			Outside: slices.Contains(m.Mail, "smtp"), Submitted: slices.Contains(m.Mail, "submission"), LMTP: slices.Contains(m.Mail, "lmtp"),
			PassWithout: m.WhenAway == "accept",
		})
	}
	return all
}
