/* SPDX-License-Identifier: BSD-3-Clause
 * Which interfaces are uplinks when the user names none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/net/links.h"

/* A second network of a container. */
static const struct links_facts second = {
    .id = {.ifindex = 3, .name = "eth1"}, .ethernet = true, .has_address = true, .has_route = true};

static void default_route_decides(void **state)
{
    struct links_facts vpn = {.has_address = true, .has_route = true};
    struct links_facts bridge = second;

    assert_false(links_is_uplink(&vpn));
    vpn.has_default = true;
    assert_true(links_is_uplink(&vpn));
    bridge.hides_containers = true;
    assert_false(links_is_uplink(&bridge));
    bridge.has_default = true;
    assert_true(links_is_uplink(&bridge));
}

static void all_of_it_is_needed(void **state)
{
    struct links_facts f = second;

    assert_true(links_is_uplink(&f));
    f.has_address = false;
    assert_false(links_is_uplink(&f));
    f = second;
    f.has_route = false;
    assert_false(links_is_uplink(&f));
    f = second;
    f.dummy = true;
    assert_false(links_is_uplink(&f));
    f = second;
    f.ethernet = false;
    assert_false(links_is_uplink(&f));
}

static void loopback_never(void **state)
{
    struct links_facts f = second;

    f.has_default = f.loopback = true;
    assert_false(links_is_uplink(&f));
}

static void what_is_missing_is_in_no_list(void **state)
{
    struct links l = {.entries = {{.name = "eth0"}, second.id}, .cnt = 2};

    assert_true(links_has(&l, 3));
    assert_false(links_has(&l, 0));
    assert_false(links_has(&l, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_route_decides),
        cmocka_unit_test(all_of_it_is_needed),
        cmocka_unit_test(loopback_never),
        cmocka_unit_test(what_is_missing_is_in_no_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
