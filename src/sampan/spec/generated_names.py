"""Names for containers that nobody named: an adjective and a word of ships and the sea."""

from __future__ import annotations

import random
from typing import Final

ADJECTIVES: Final = tuple(
    """
    able agile airy amber ample azure balmy bold brave breezy bright brisk buoyant calm candid
    cheery civil clear clever coastal cosy crimson crisp curious daring deft distant eager early
    easy electric elegant even fair famous fast fearless festive fine fleet fluent fond frank free
    fresh frosty gallant gentle giddy glad golden good graceful grand happy hardy hearty honest
    hopeful humble ideal indigo jaunty jolly jovial keen kind large lasting level light lively
    lofty loyal lucid lucky mellow merry mighty mild modest moonlit neat nimble noble northern open
    patient peaceful pearly playful plucky polite proud quick quiet radiant rapid ready regal
    restful robust rosy ruddy salty sandy scarlet serene sharp shiny silent silver simple sleek
    smooth snug soft solid southern spry stable starry steady stellar still stout strong sturdy
    sunny sure swift tidal tidy tireless tranquil trim true trusty upbeat valiant vast verdant
    vivid warm wavy western whimsical windy wise witty wry young zesty
    """.split()
)
NOUNS: Final = tuple(
    """
    albatross anchor anchovy atoll barge barnacle barque bay beacon bobber bollard bosun bowline
    bowsprit breaker brig buoy cabin canal canoe capstan captain catamaran cay clam clipper coast
    cockle cod compass conch coracle coral cormorant cove coxswain crab creek crest crow cruiser
    current cutter deck delta dinghy dock dolphin dory drifter eddy eel ferry fjord flag fleet
    foghorn frigate galleon galley gannet gondola gull gunwale halyard harbour hatch haven helm
    heron herring hull inlet island isthmus jetty jib junk kayak keel kelp ketch kraken lagoon
    lantern launch lighthouse limpet lobster locker longship lugger mackerel mainsail manatee mast
    mate mooring mussel narwhal nautilus navigator oar ocean octopus orca osprey otter outrigger
    oyster packet paddle pearl pelican pennant pier pilot pinnace plankton porpoise porthole prow
    puffin punt quay raft reef regatta rigging ripple rudder sailor salmon sampan sandbar schooner
    scow sculler seagull seahorse seal sextant shallop shoal shore shrimp skiff sloop sound spar
    spinnaker sponge squid starboard starfish steamer stern strait sturgeon surf tern tide tiller
    topsail trawler trimaran tugboat tuna turtle voyage walrus wave whale wharf wherry windlass
    xebec yacht yawl
    """.split()
)


def generate_name(retry: int = 0) -> str:
    """Return a name like "calm_schooner"; from the second try on with a digit at its end."""
    name = f"{random.choice(ADJECTIVES)}_{random.choice(NOUNS)}"  # noqa: S311 - no secret
    return f"{name}{random.randrange(10)}" if retry else name  # noqa: S311
