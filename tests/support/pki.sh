#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# pki.sh DIR: certificates for unit tests, made by deploy/pki: ca.pem; n1, n2 (nodes), m1, m2 (managers), alice (user);
# plain.pem of the same CA without an identity; old.pem: n1's, expired; DIR/rogue: another CA with the same names.
set -euo pipefail

dir=$1
pki=$(cd "$(dirname "$0")/../../deploy" && pwd)/pki
"$pki" "$dir" --node n1 n2 --manager m1,127.0.0.1 m2,127.0.0.1 --user alice
"$pki" "$dir/rogue" --node n1 --manager m1,127.0.0.1
if [ ! -s "$dir/plain.pem" ]; then
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/plain.key" -subj /CN=plain \
        -out "$dir/plain.csr" 2>/dev/null
    openssl x509 -req -in "$dir/plain.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -set_serial 0x77 -days 825 \
        -out "$dir/plain.pem.new" 2>/dev/null
    rm -f "$dir/plain.csr"
    mv "$dir/plain.pem.new" "$dir/plain.pem"
fi
if [ ! -s "$dir/old.pem" ]; then
    cp "$dir/n1.key" "$dir/old.key"
    openssl req -new -key "$dir/old.key" -subj /CN=n1 -out "$dir/old.csr" 2>/dev/null
    openssl x509 -req -in "$dir/old.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -set_serial 0x78 -days -1 \
        -extfile <(echo "subjectAltName=URI:vdc://node/n1") -out "$dir/old.pem.new" 2>/dev/null
    rm -f "$dir/old.csr"
    mv "$dir/old.pem.new" "$dir/old.pem"
fi
touch "$dir/done"
