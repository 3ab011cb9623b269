// Subnets says what there is in an IPv4 network: a page, and the same as JSON.
package main

import (
	"context"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"html/template"
	"io/fs"
	"log"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	name    = "go"
	version = "1"
)

//go:embed web
var web embed.FS

var page = template.Must(template.ParseFS(web, "web/index.html"))

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	server := &http.Server{Addr: ":" + port, Handler: routes(), ReadHeaderTimeout: 10 * time.Second}

	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	stopped := make(chan error)
	go func() {
		<-stop.Done()
		stopped <- server.Shutdown(context.Background())
	}()

	log.Printf("%s listens on port %s", name, port)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-stopped; err != nil {
		log.Fatal(err)
	}
}

func routes() http.Handler {
	static, err := fs.Sub(web, "web/static")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/static/", http.StripPrefix("/static/", http.FileServer(http.FS(static))))
	mux.HandleFunc("/health", health)
	mux.HandleFunc("/api/subnet", apiSubnet)
	mux.HandleFunc("/", index)
	return mux
}

func index(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	cidr := r.URL.Query().Get("cidr")
	if cidr == "" {
		cidr = "10.1.2.3/20"
	}
	subnet, err := parse(cidr)
	seen := struct {
		Name, Version, CIDR string
		Subnet              Subnet
		Error               error
	}{name, version, cidr, subnet, err}
	if err := page.Execute(w, seen); err != nil {
		log.Print(err)
	}
}

func apiSubnet(w http.ResponseWriter, r *http.Request) {
	subnet, err := parse(r.URL.Query().Get("cidr"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(subnet); err != nil {
		log.Print(err)
	}
}

func health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	w.Write([]byte("ok\n"))
}

// Subnet is an IPv4 network from its first to its last address.
type Subnet struct {
	Network   netip.Prefix `json:"network"`
	First     netip.Addr   `json:"first"`
	Last      netip.Addr   `json:"last"`
	Addresses uint64       `json:"addresses"`
}

func parse(cidr string) (Subnet, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return Subnet{}, err
	}
	if !prefix.Addr().Is4() {
		return Subnet{}, errors.New("only IPv4 networks, please")
	}
	network := prefix.Masked()
	size := uint64(1) << (32 - network.Bits())
	first := network.Addr().As4()
	var last [4]byte
	binary.BigEndian.PutUint32(last[:], binary.BigEndian.Uint32(first[:])+uint32(size-1))
	return Subnet{network, network.Addr(), netip.AddrFrom4(last), size}, nil
}
