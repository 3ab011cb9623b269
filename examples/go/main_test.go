package main

import "testing"

func TestParse(t *testing.T) {
	for cidr, last := range map[string]string{
		"10.1.2.3/20":  "10.1.15.255",
		"0.0.0.0/0":    "255.255.255.255",
		"192.0.2.7/32": "192.0.2.7",
	} {
		subnet, err := parse(cidr)
		if err != nil || subnet.Last.String() != last {
			t.Errorf("%s: got %v, %v; want %s", cidr, subnet.Last, err, last)
		}
	}
	if _, err := parse("10.1.2.3"); err == nil {
		t.Error("an address is not a network")
	}
}
