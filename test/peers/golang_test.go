package peers

import "testing"

func goIMAP(t *testing.T, s *subject) {}
func goSMTP(t *testing.T, s *subject) {}
