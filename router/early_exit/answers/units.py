"""Units of measure, with their exact size in a base unit: 60 minutes are 1 hour, 1 km is no 1 m.

A word that is no unit here may be what is counted ("18 eggs"); see `answer_reading`.
"""

from fractions import Fraction

_DIMENSIONS: dict[str, dict[str, str]] = {
    "s": {
        "1": "s sec secs second seconds sekunde sekunden seconde secondes segundo segundos 秒",
        "1/1000": "ms msec millisecond milliseconds",
        "60": "min mins minute minutes minuten minuto minutos 分钟",
        "3600": "h hr hrs hour hours stunde stunden heure heures hora horas 小时",
        "86400": "day days tag tage jour jours día días 天",
        "604800": "week weeks woche wochen semaine semaines semana semanas",
    },
    "month": {"1": "month months monat monate", "12": "year years yr yrs jahr jahre 年"},
    "m": {
        "1": "m metre metres meter meters mètre mètres metro metros 米",
        "1/1000": "mm millimetre millimetres millimeter millimeters",
        "1/100": "cm centimetre centimetres centimeter centimeters 厘米",
        "1000": "km kilometre kilometres kilometer kilometers 公里",
        "1/1000000": "um μm micrometre micrometres micrometer micrometers micron microns",
        "1/1000000000": "nm nanometre nanometres nanometer nanometers",
        "0.0254": "inch inches",
        "0.3048": "ft foot feet",
        "0.9144": "yd yard yards",
        "1609.344": "mi mile miles",
    },
    "m^2": {
        "1": "m^2 m2 sqm",
        "1/10000": "cm^2 cm2",
        "1/1000000": "mm^2 mm2",
        "1000000": "km^2 km2",
        "10000": "ha hectare hectares",
    },
    "m^3": {
        "1": "m^3 m3",
        "1/1000000": "cm^3 cm3 cc ml mL millilitre millilitres milliliter milliliters",
        "1/1000": "l L litre litres liter liters dm^3",
    },
    "g": {
        "1": "g gram grams gramme grammes gramm",
        "1/1000": "mg milligram milligrams",
        "1000": "kg kgs kilo kilos kilogram kilograms kilogramm 千克 公斤",
        "1000000": "tonne tonnes",
    },
    "m/s": {"1": "m/s", "1000/3600": "km/h kph", "0.44704": "mph mi/h"},
    "J": {"1": "J joule joules", "1000": "kJ kilojoule kilojoules", "1000000": "MJ"},
    "W": {"1": "W watt watts", "1000": "kW kilowatt kilowatts", "1000000": "MW"},
    "V": {"1": "V volt volts", "1000": "kV"},
    "A": {"1": "A ampere amperes amp amps", "1/1000": "mA"},
    "N": {"1": "N newton newtons", "1000": "kN"},
    "Pa": {"1": "Pa pascal pascals", "1000": "kPa", "1000000": "MPa"},
    "Hz": {"1": "Hz hertz", "1000": "kHz", "1000000": "MHz", "1000000000": "GHz"},
    "byte": {"1": "byte bytes"},  # no multiples: a KB has 1000 or 1024
    "bit": {"1": "bit bits"},
    "mol": {"1": "mol mole moles", "1/1000": "mmol"},
    "K": {"1": "K kelvin kelvins"},
    "°C": {"1": "°C celsius"},
    "°F": {"1": "°F fahrenheit"},
    "rad": {"1": "rad radian radians"},
    "cent": {"1": "cent cents ¢"},
}
UNITS = {
    name: (base, Fraction(*map(Fraction, size.split("/"))))
    for base, sizes in _DIMENSIONS.items()
    for size, names in sizes.items()
    for name in names.split()
}


def unit(name: str) -> tuple[str, Fraction] | None:
    """The base unit and the size in it of a unit's symbol (as it is written) or name (in any case)."""
    return UNITS.get(name) or (UNITS.get(name.casefold()) if len(name) > 2 else None)
