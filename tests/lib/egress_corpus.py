"""What has led others' servers astray: addresses, and ways of writing a URL. None of it may be asked."""

from __future__ import annotations

LOCAL = [
    *("127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "100.100.100.200", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.1", "198.51.100.7"),
    *("203.0.113.7", "192.88.99.1", "168.63.129.16"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:169.254.169.254"),
    *("::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::10.0.0.1"),
    *("2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "2001::1", "2001:0:7f00:1::", "2001:db8::1"),
    *("fc00::1", "fd00:ec2::254", "fd12:3456::1", "fe80::1", "fe80::a9fe:a9fe", "fec0::1", "ff02::1"),
    *("100::1", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:10.0.0.1", "3fff::1", "5f00::1", "4000::1"),
]
"""Addresses that are no place in the internet."""

WRITTEN = [
    *(f"https://[{each}]/" if ":" in each else f"https://{each}/" for each in LOCAL),
    # other ways of writing 127.0.0.1, 169.254.169.254 and 10.0.0.1
    *("https://2130706433/", "https://0x7f000001/", "https://017700000001/", "https://0177.0.0.1/"),
    *("https://0x7f.0.0.1/", "https://127.1/", "https://127.0.1/", "https://0/", "https://00000/"),
    *("https://127.0.0.01/", "https://127.000.000.001/", "https://0x7f.1/", "https://127.0x000001/"),
    *("https://2852039166/", "https://0xa9fea9fe/", "https://0251.0376.0251.0376/", "https://169.254.43518/"),
    *(
        "https://4294967296/",
        "https://256.0.0.1/",
        "https://127.0.0.1.0/",
        "https://1.2.3.4.5/",
        "https://0x/",
    ),
    *("https://10.1/", "https://0xa000001/", "https://167772161/", "https://012.0.0.1/", "https://a.1/"),
    # dots at the end, and dots that are none
    *("https://127.0.0.1./", "https://localhost./", "https://example.com./", "https://example..com/"),
    *("https://./", "https://../", "https://.example.com/", "https://127。0。0。1/", "https://127.0.0｡1/"),
    # names of this machine and of local networks
    *("https://localhost/", "https://LOCALHOST/", "https://a.localhost/", "https://metadata/"),
    *("https://metadata.google.internal/", "https://redis.local/", "https://router.lan/", "https://db/"),
    *("https://x.home.arpa/", "https://ip6-localhost/", "https://1.0.0.127.in-addr.arpa/"),
    # signs that look like others, and names that are no names
    *("https://①②⑦.⓪.⓪.①/", "https://１２７.0.0.1/", "https://bücher.example/", "https://ⓔxample.com/"),
    *(
        "https://exa\u200bmple.com/",
        "https://exam\u00adple.com/",
        "https://example%2ecom/",
        "https://-a.com/",
    ),
    *("https://a-.com/", "https://a_b.com/", "https://%6c%6f%63alhost/", f"https://{'a' * 64}.com/"),
    f"https://{'a.' * 127}com/",
    # other schemes, and none
    *(
        "http://example.com/",
        "HTTP://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://a.b/",
    ),
    *(
        "dict://example.com:11211/",
        "javascript:alert(1)",
        "data:text/html,a",
        "//example.com/",
        "example.com",
    ),
    *("", "https", "https:", "https:/", "https://", "https:example.com", "https:/example.com"),
    *("https:///a",),
    *(
        "unix:///run/docker.sock",
        "jar:https://example.com!/",
        "url:https://example.com/",
        "ws://example.com/",
    ),
    # names, passwords and other signs before the host
    *("https://user@example.com/", "https://user:word@example.com/", "https://example.com@127.0.0.1/"),
    *("https://127.0.0.1#@example.com/", "https://example.com#@127.0.0.1/", "https://@example.com/"),
    *("https://127.0.0.1\\@example.com/", "https://example.com\\@127.0.0.1/", "https:\\\\127.0.0.1\\"),
    *(
        "https://example.com\\.evil.com/",
        "https:/\\127.0.0.1/",
        "https://example.com/a\\b",
        "https://a.com/#b",
    ),
    *("https://127.0.0.1:443@example.com/", "https://example.com:443@127.0.0.1:443/"),
    # white space and control signs
    *(
        "https://exa\nmple.com/",
        "https://example.com/\n",
        "\nhttps://example.com/",
        "https://example.com/a b",
    ),
    *(
        "https://example.com/\r\nHost: a",
        "https://example.com/\x00",
        " https://example.com/",
        "https://a.com\t/",
    ),
    *("https://example.com\x00.evil.com/", "https://127.0.0.1 /", "ht\ntps://example.com/"),
    # ports
    *("https://example.com:80/", "https://example.com:22/", "https://example.com:6379/", "https://a.com:0/"),
    *(
        "https://example.com:65536/",
        "https://example.com:99999/",
        "https://example.com:/",
        "https://a.com:-1/",
    ),
    *(
        "https://example.com:443:443/",
        "https://example.com:4e2/",
        "https://example.com:+443/",
        "https://a.com:٤٤٣/",
    ),
    # brackets
    *(
        "https://[::1",
        "https://::1/",
        "https://[::1]evil.com/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
    ),
    *(
        "https://[127.0.0.1]/",
        "https://[]/",
        "https://[::1]:443@example.com/",
        "https://[v1.a]/",
        "https://[:::]/",
    ),
    "https://example.com/" + "a" * 1000,
]
